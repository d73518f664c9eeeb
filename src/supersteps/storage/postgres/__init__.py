"""What `PostgresCheckpointStorage` is made of, from the server upwards.

- `addresses`: what a storage is told about its server, and how messages name it
- `refusals`: errors of the server and of the network as the library's
- `connections`: opening, checking, keeping and replacing connections
- `migrations`: the schema, made and brought up to date
- `database`: reading and writing in transactions, also across a restart of the server
- `stored_tables`, `tables`: the statements, as the rules of `storage/delta` want them
- `access`: all of it, for a storage
- `commits`, `commit_queue`: commits in one statement, and those of several runs together
"""
