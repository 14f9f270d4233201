"""What the ClimaSense server must remember: devices, keys, settings, commands, firmware. A relational database.

SQLite in the state folder by default; any database that SQLAlchemy supports by a URL (tested with PostgreSQL). Calls
block: the server makes them in threads (`store.threads`), the command line directly. Each call is one transaction,
durable when it returns (SQLite: WAL with `synchronous=FULL`), so that kill -9 leaves all of it or nothing.

Devices are named by their native id (`hub-1`), not by `DeviceId`. Times are microseconds since the epoch.
"""
