"""Texts with labels: classes of texts, joined passages, parts of speech.

In comes the name of a data set or a file; out come texts with their classes, passages that have been joined
and know where, and a part of speech for every token.

data              data sets with a class a text
passages          passages of several documents joined into one text
parts_of_speech   of words in their sentence, aligned to tokens by character
"""
