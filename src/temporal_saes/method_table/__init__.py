"""All results of several runs in one table.

In come the JSON files that experiments and evaluations wrote; out comes markdown. Nothing is computed anew.

command   the table from the command line
results   files to numbers: what each experiment says of a run's chunk
table     numbers to a table
"""
