"""One file for each noun of a checkpoint, with all that is done to it.

Each file has the noun's shape at run time, its stored shape, and every step between the two:
encode, load, describe for people, encode again what people changed, rename and check for a
migration, edit for a fork. `table.SECTIONS` lists them for the loops that go over all parts of a
checkpoint.
"""
