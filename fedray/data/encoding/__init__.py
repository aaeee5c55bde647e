"""Tables of text and numbers as inputs and targets: one encoding, learnt from answers that silos may give."""
