"""Following a command on a card, real or virtual: every Python process it starts, and what each takes.

Two halves. `hook`, `agent` and what it imports run inside the processes of the command, which may belong to
another environment than ours: they import the standard library, torch and nothing else. `command` and
`result` run in the process that started it, and import no torch.
"""
