"""The command line: `toril worker`, `toril job`, `toril dev`.

`main` is the way in and knows nothing but the standard library; `tree` holds the commands and imports one only when it
is asked for, so that `--help` is quick. One noun a file. Commands talk to Redis through the public API and the engine.
"""
