"""What runs a program: memory, threads, the cache of compiled code and the plan walker.

Import the modules by name; nothing here knows what a tensor is.
"""
