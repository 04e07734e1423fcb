"""Two runs side by side: which latents of one are which of the other, and what both say of them.

`compare_runs` (compare.py) needs torch and minutes at worst; `cache.py` keeps its result for the dashboard and
starts it in a process of its own.
"""
