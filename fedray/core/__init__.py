"""Words that every other part uses: no part of a federation, and no option of a config."""
