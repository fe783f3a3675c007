"""Random programs of registered operators, computed eagerly, compiled and by torch: ``python -m fuzz``.

programs.py  draws a program; it grows from the operators' own samples
compare.py   runs it in every way and says what differs
"""
