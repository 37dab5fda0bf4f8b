"""The ladder: the rungs of a search, what each costs, who goes on, and the plan that a budget buys.

Values only: nothing here trains anything or knows a network or a study.
"""
