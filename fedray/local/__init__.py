"""The one local training loop: rules, schedules, and stacked or sequential stepping behind them."""
