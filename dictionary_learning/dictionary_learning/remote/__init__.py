"""Files and folders at URLs, read and written with fsspec: s3://, gs://, hf://, https:// (to read), memory://.

In comes a URL where a command takes a path; out comes what stands for it: a file that opens like one of
this machine, a folder of this machine that is kept like the one at the URL, or a large file in a folder of
bounded size. What cannot be reached, read or written is one sentence. fsspec is imported when a URL is used,
not before.

file_system   the library behind a URL, or the package that is missing
path          a file or a folder at a URL, under the names of pathlib
connection    dropped connections: what is one, trying again, and what an error says
mirror        a folder at a URL with its copy on this machine: fetched before, sent after
claim         a marker at the URL that somebody writes there
local_cache   large files that are fetched when needed, the least recently used removed
options       how large that folder may become
"""
