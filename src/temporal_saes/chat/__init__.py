"""Asking a chat model: a server that speaks OpenAI's protocol, or a local model.

In come questions; out come answers, or the reason why there are none; each answer is paid for once.

server         a model behind an OpenAI-compatible server
transport      one call of a server
local          a model on this machine
model          what they share: questions, answers and how they fail
answers        what an answer says, however it is dressed
journal        the answers that are there already
token_budget   what may be spent
"""
