"""The positive control: what this run could have found, had it been there."""
