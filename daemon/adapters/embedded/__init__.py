"""
Postgres and Valkey as child processes in the data folder, for an installation without servers of its own.

`rundir` and `running` are for every process (standard library only); `postgres` and `valkey` start the
servers, through `child`, which hands each one over to `exec_child`.
"""
