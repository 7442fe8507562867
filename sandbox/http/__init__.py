"""The sandbox over HTTP: a server for trainers on machines without Docker, and the client that speaks to it.

`protocol` holds the messages, `service` what each path does, `app` and `server` the web around it, `remote` the
client that `--sandbox http://HOST:PORT` opens. Programs still run behind the same wall, and the server judges the
values that come out of it. This room decides nothing about a verdict. docs/protocol.md describes the messages.
"""
