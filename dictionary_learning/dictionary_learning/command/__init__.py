"""What every command line of the project is made of.

In come flags and the environment; out go options that have been checked, files that are whole or not there,
figures of one style, progress that a person can read, and one sentence with exit code 2 for a user's mistake.

cli            how a command starts and ends
options        options as frozen dataclasses: flags, presets and records made from one description
program        how the command was started
rehearsal      a command up to its first slow or lasting step
extras         packages that only some parts need
lock           one writer a folder
files          saving whole or not at all, reading JSON and YAML; whether a folder can be written
secrets        tokens and passwords, out of all that is printed or recorded
checksums      the SHA-256 of files of weights, kept beside them
fields         whether the values of somebody's file are of the kind that they should be
progress       what is done, how fast, how long it will take
interruption   Ctrl-C and SIGTERM between two steps
processes      those that torchrun started: how they begin, and how one's failure ends all
devices memory what the machine has
figures        one style and one colour a method
"""
