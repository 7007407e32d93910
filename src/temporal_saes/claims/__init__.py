"""What the papers claim, as rows with a statistic, an interval and a verdict.

In come the results that evaluation and experiments wrote for several methods, budgets and seeds; out come one
table of verdicts and the learning curves behind it. Nothing is computed anew.

methods      what is trained, how long, and where its runs lie
experiments  what is asked of it
pieces       the work as commands that are done once, one after the other
readings     all of them: by method, budget, seed, chunk and measure
rows         the claims themselves
verdicts     paired differences, their intervals, and what these say
report       the table and the JSON
curves       the figure
"""
