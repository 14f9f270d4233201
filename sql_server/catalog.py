"""PostgreSQL's catalogues of the published tables, as views and macros of DuckDB. Pure.

They are in the schema `pg` (and `pg_information`) of a session's memory, see `rewriting`. Numbers of tables and types
derive from their names, so that all processes give the same ones. What PostgreSQL has and DuckDB has not (indexes,
triggers, policies…) are empty tables.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator

from sql_server.lexer import literal
from sql_server.types import JSON, OF_DUCKDB, TEXT, TYPES, ResultType, result_type

DATABASE = "fleet"
SCHEMA = "main"
INFORMATION_SCHEMA = "memory.pg_information"
VERSION = "15.0"
SCHEMAS = (
    "CREATE SCHEMA memory.pg",
    f"CREATE SCHEMA {INFORMATION_SCHEMA}",
    f"SET search_path = 'fleet.{SCHEMA},memory.pg'",
)
"""The statements that come first, while settings can still be changed."""

_OWNER = 10
_NAMESPACES = {"pg_catalog": 11, SCHEMA: 2200, "information_schema": 13000}
_CLASS_CATALOG = 1259

SETTINGS = {
    "server_version": VERSION,
    "server_version_num": "150000",
    "server_encoding": "UTF8",
    "client_encoding": "UTF8",
    "application_name": "",
    "is_superuser": "off",
    "session_authorization": "fleetlake",
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "integer_datetimes": "on",
    "standard_conforming_strings": "on",
    "default_transaction_read_only": "on",
    "transaction_read_only": "on",
    "in_hot_standby": "off",
    "search_path": SCHEMA,
    "max_identifier_length": "63",
    "transaction_isolation": "read committed",
    "default_transaction_isolation": "read committed",
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "client_min_messages": "notice",
    "lc_collate": "C",
    "lc_ctype": "C",
    "lc_monetary": "C",
    "lc_numeric": "C",
    "lc_time": "C",
    "max_index_keys": "32",
    "row_security": "on",
    "wal_level": "minimal",
    "jit": "off",
    "enable_seqscan": "on",
    "synchronize_seqscans": "on",
    "xmloption": "content",
    "default_tablespace": "",
    "default_table_access_method": "heap",
    "check_function_bodies": "on",
    "escape_string_warning": "on",
    "array_nulls": "on",
    "timezone_abbreviations": "Default",
    "work_mem": "4MB",
}
"""The settings that clients ask for, and may set."""


def setup() -> Iterator[str]:
    """The statements that make the catalogues in a session's memory, after `SCHEMAS`."""
    for alias, of in _TYPE_NAMES.items():
        yield f"CREATE TYPE memory.pg.{alias} AS {of}"
    for name, query in _VIEWS.items():
        yield f"CREATE VIEW memory.pg.{name} AS {query}"
    for name, columns in _EMPTY.items():
        yield f"CREATE VIEW memory.pg.{name} AS {_empty(columns)}"
    for name, query in INFORMATION_VIEWS.items():
        yield f"CREATE VIEW {INFORMATION_SCHEMA}.{name} AS {query}"
    for name, forms in _MACROS.items():
        bodies = ", ".join(f"({parameters}) AS ({body})" for parameters, body in forms.items())
        yield f"CREATE MACRO memory.pg.{name} {bodies}"


def _oid(name: str) -> str:
    """SQL for the number of a table or view."""
    return f"((hash({name}) % 2000000000)::BIGINT + 100000)"


def _by_type(column: str, of: Callable[[ResultType, str], str]) -> str:
    """SQL for a property of PostgreSQL's type of a column, whose type in DuckDB is in `column`."""
    cases = []
    for name, one in OF_DUCKDB.items():
        cases.append(f"WHEN {literal(name)} THEN {of(result_type(name), one.standard)}")
        cases.append(f"WHEN {literal(name + '[]')} THEN {of(result_type(name + '[]'), 'ARRAY')}")
    structured, other = of(result_type("MAP(x)"), JSON.standard), of(result_type(""), TEXT.standard)
    plain = f"regexp_replace({column}, '\\([^)]*\\)', '')"
    return (
        f"CASE WHEN {column} LIKE '%[][]' OR regexp_matches({column}, '^(STRUCT|MAP|UNION)\\(') THEN {structured} "
        f"ELSE CASE {plain} {' '.join(cases)} ELSE {other} END END"
    )


_NUMBER = "BIGINT"


def _empty(columns: str) -> str:
    """A query without rows. Columns are `name:TYPE`; without a type BIGINT."""
    fields = (column.partition(":") for column in columns.split())
    return f"SELECT {', '.join(f'CAST(NULL AS {of or _NUMBER}) AS {name}' for name, _, of in fields)} WHERE false"


def _rows(columns: str, rows: Iterable[tuple[object, ...]]) -> str:
    """A query that gives these rows."""
    lines = (", ".join(literal(cell) if isinstance(cell, str) else str(cell) for cell in row) for row in rows)
    return f"SELECT * FROM (VALUES {', '.join(f'({line})' for line in lines)}) AS given({columns})"


_TYPE_NAMES = {
    **dict.fromkeys(("regclass", "regtype", "regnamespace", "regrole"), "BIGINT"),
    **dict.fromkeys(("regproc", "regprocedure", "regoper", "name", "cstring"), "VARCHAR"),
    "jsonb": "JSON",
}

_ANY = "a", "a, b", "a, b, c"
_TRUE = dict.fromkeys(_ANY, "true")
_ZERO = {"a": "0"}
_NULL = dict.fromkeys(_ANY, "CAST(NULL AS VARCHAR)")
_UNQUALIFIED = "regexp_replace(replace(a, chr(34), ''), '^.*\\.', '')"
_DESCRIPTION = "SELECT any_value(d.description) FROM memory.pg.pg_description d"
_SETTING = "(SELECT any_value(s.setting) FROM memory.pg.pg_settings s WHERE lower(s.name) = lower(a))"
_MACROS = {
    "version": {"": literal(f"PostgreSQL {VERSION} (fleetlake on DuckDB, read-only)")},
    "pg_current_setting": {
        "a": _SETTING,
        "a, b": _SETTING,
    },
    "set_config": {"a, b, c": "b"},
    "to_regclass": {"a": f"CASE WHEN {_UNQUALIFIED} = 'pg_class' THEN {_CLASS_CATALOG} ELSE {_oid(_UNQUALIFIED)} END"},
    "to_regtype": {"a": "(SELECT any_value(t.oid) FROM memory.pg.pg_type t WHERE t.typname = a)"},
    "to_regnamespace": {"a": "(SELECT any_value(n.oid) FROM memory.pg.pg_namespace n WHERE n.nspname = a)"},
    "format_type": {"a, b": "(SELECT any_value(t.formatted) FROM memory.pg.pg_type t WHERE t.oid = a)"},
    "quote_ident": {
        "a": "CASE WHEN regexp_full_match(a, '[a-z_][a-z0-9_$]*') THEN a "
        "ELSE chr(34) || replace(a, chr(34), chr(34) || chr(34)) || chr(34) END"
    },
    "quote_literal": {"a": "chr(39) || replace(a::VARCHAR, chr(39), chr(39) || chr(39)) || chr(39)"},
    "parse_ident": {"a": "string_split(replace(a, chr(34), ''), '.')"},
    "_pg_expandarray": {"a": "{'x': a[1], 'n': 1}"},  # of the columns of an index, and there are none
    "array_lower": {"a, b": "CASE WHEN len(a) > 0 THEN 1 END"},
    "array_upper": {"a, b": "CASE WHEN len(a) > 0 THEN len(a) END"},
    "pg_get_userbyid": {"a": "'fleetlake'"},
    "pg_encoding_to_char": {"a": "'UTF8'"},
    "pg_backend_pid": {"": "1"},
    "pg_is_in_recovery": {"": "false"},
    "pg_my_temp_schema": {"": "0"},
    "pg_postmaster_start_time": {"": "now()"},
    "pg_get_viewdef": dict.fromkeys(
        ("a", "a, b"),
        f"(SELECT any_value(v.definition) FROM memory.pg.pg_views v WHERE {_oid('v.viewname')} = a)",
    ),
    "obj_description": dict.fromkeys(("a", "a, b"), f"({_DESCRIPTION} WHERE d.objoid = a AND d.objsubid = 0)"),
    "col_description": {"a, b": f"({_DESCRIPTION} WHERE d.objoid = a AND d.objsubid = b)"},
    **dict.fromkeys(
        (
            *("pg_table_is_visible", "pg_type_is_visible", "pg_function_is_visible", "pg_opclass_is_visible"),
            *("has_table_privilege", "has_schema_privilege", "has_database_privilege", "has_column_privilege"),
            *("has_any_column_privilege", "pg_relation_is_publishable", "pg_has_role", "has_function_privilege"),
        ),
        _TRUE,
    ),
    **dict.fromkeys(
        (
            *("pg_get_expr", "pg_get_constraintdef", "pg_get_indexdef", "pg_get_partkeydef", "pg_get_serial_sequence"),
            *("pg_get_triggerdef", "pg_get_ruledef", "shobj_description", "pg_tablespace_location"),
            *("pg_get_function_result", "pg_get_function_arguments", "pg_get_function_identity_arguments"),
            *("pg_get_functiondef", "pg_get_statisticsobjdef_columns", "pg_relation_filenode"),
        ),
        _NULL,
    ),
    **dict.fromkeys(("pg_relation_size", "pg_total_relation_size", "pg_table_size", "pg_database_size"), _ZERO),
}
"""Functions by name: for each list of parameters what they give."""

_OF_FLEET = f"database_name = '{DATABASE}' AND schema_name = '{SCHEMA}' AND NOT internal"
_RELATIONS = (
    "SELECT table_name AS name, 'r' AS kind, comment, estimated_size AS rows, column_count AS columns "
    f"FROM duckdb_tables() WHERE {_OF_FLEET} UNION ALL "
    f"SELECT view_name, 'v', comment, 0, column_count FROM duckdb_views() WHERE {_OF_FLEET}"
)
_COLUMNS = f"SELECT * FROM duckdb_columns() WHERE {_OF_FLEET}"

_VIEWS = {
    "pg_namespace": _rows(
        "oid, nspname, nspowner, nspacl", ((oid, name, _OWNER, "NULL::VARCHAR[]") for name, oid in _NAMESPACES.items())
    ).replace("'NULL::VARCHAR[]'", "NULL::VARCHAR[]"),
    "pg_class": f"""SELECT {_oid("name")} AS oid, name AS relname, {_NAMESPACES[SCHEMA]} AS relnamespace, 0 AS reltype,
        0 AS reloftype, {_OWNER} AS relowner, 2 AS relam, 0 AS relfilenode, 0 AS reltablespace, 0 AS relpages,
        rows::DOUBLE AS reltuples, 0 AS relallvisible, 0 AS reltoastrelid, false AS relhasindex, false AS relisshared,
        'p' AS relpersistence, kind AS relkind, columns AS relnatts, 0 AS relchecks, false AS relhasrules,
        false AS relhastriggers, false AS relhassubclass, false AS relrowsecurity, false AS relforcerowsecurity,
        true AS relispopulated, 'd' AS relreplident, false AS relispartition, 0 AS relrewrite, 0 AS relfrozenxid,
        0 AS relminmxid, NULL::VARCHAR[] AS relacl, NULL::VARCHAR[] AS reloptions, NULL::VARCHAR AS relpartbound,
        {_CLASS_CATALOG} AS tableoid FROM ({_RELATIONS})""",
    "pg_attribute": f"""SELECT {_oid("table_name")} AS attrelid, column_name AS attname,
        {_by_type("data_type", lambda one, _: str(one.oid))} AS atttypid, -1 AS attstattarget,
        {_by_type("data_type", lambda one, _: str(one.size))} AS attlen, column_index AS attnum, 0 AS attndims,
        -1 AS attcacheoff, -1 AS atttypmod, false AS attbyval, 'i' AS attalign, 'p' AS attstorage,
        '' AS attcompression, NOT is_nullable AS attnotnull, false AS atthasdef, false AS atthasmissing,
        '' AS attidentity, '' AS attgenerated, false AS attisdropped, true AS attislocal, 0 AS attinhcount,
        0 AS attcollation, NULL::VARCHAR[] AS attacl, NULL::VARCHAR[] AS attoptions,
        NULL::VARCHAR[] AS attfdwoptions FROM ({_COLUMNS})""",
    "pg_type": _rows(
        "oid, typname, formatted, typnamespace, typowner, typlen, typbyval, typtype, typcategory, typispreferred, "
        "typisdefined, typdelim, typrelid, typsubscript, typelem, typarray, typinput, typoutput, typreceive, typsend, "
        "typnotnull, typbasetype, typtypmod, typndims, typcollation",
        (
            (
                *(
                    oid,
                    name,
                    formatted,
                    11,
                    _OWNER,
                    size,
                    False,
                    "b",
                    category,
                    False,
                    True,
                    ",",
                    0,
                    "-",
                    element,
                    array,
                ),
                *(f"{name}in", f"{name}out", f"{name}recv", f"{name}send", False, 0, -1, 0, 0),
            )
            for one in TYPES
            for oid, name, formatted, size, category, element, array in (
                (one.oid, one.name, one.standard, one.size, one.category, 0, one.array),
                (one.array, f"_{one.name}", f"{one.standard}[]", -1, "A", one.oid, 0),
            )
        ),
    )
    + " UNION ALL BY NAME SELECT NULL::VARCHAR AS typdefault WHERE false",
    "pg_description": f"""SELECT {_oid("name")} AS objoid, {_CLASS_CATALOG} AS classoid, 0 AS objsubid,
        comment AS description FROM ({_RELATIONS}) WHERE comment IS NOT NULL UNION ALL
        SELECT {_oid("table_name")}, {_CLASS_CATALOG}, column_index, comment FROM ({_COLUMNS})
        WHERE comment IS NOT NULL""",
    "pg_database": _rows(
        "oid, datname, datdba, encoding, datlocprovider, datcollate, datctype, datistemplate, datallowconn, "
        "datconnlimit, dattablespace, daticulocale, datcollversion, datacl",
        [(16384, DATABASE, _OWNER, 6, "c", "C", "C", False, True, -1, 1663, "", "", "")],
    ).replace("'')) AS", "NULL::VARCHAR[])) AS"),
    "pg_roles": _rows(
        "oid, rolname, rolsuper, rolinherit, rolcreaterole, rolcreatedb, rolcanlogin, rolreplication, rolconnlimit, "
        "rolbypassrls, rolvaliduntil",
        [(_OWNER, "fleetlake", False, True, False, False, True, False, -1, False, "infinity")],
    ),
    "pg_user": _rows("usename, usesysid, usecreatedb, usesuper", [("fleetlake", _OWNER, False, False)]),
    "pg_settings": _rows(
        "name, setting, unit, category, short_desc, context, vartype, source",
        ((name, value, "", "", "", "user", "string", "default") for name, value in SETTINGS.items()),
    ),
    "pg_tables": f"""SELECT '{SCHEMA}' AS schemaname, name AS tablename, 'fleetlake' AS tableowner,
        NULL::VARCHAR AS tablespace, false AS hasindexes, false AS hasrules, false AS hastriggers,
        false AS rowsecurity FROM ({_RELATIONS}) WHERE kind = 'r'""",
    "pg_views": f"""SELECT '{SCHEMA}' AS schemaname, view_name AS viewname, 'fleetlake' AS viewowner,
        sql AS definition FROM duckdb_views() WHERE {_OF_FLEET}""",
    "pg_am": _rows("oid, amname, amhandler, amtype", [(2, "heap", "heap_tableam_handler", "t")]),
    "pg_tablespace": _rows("oid, spcname, spcowner", [(1663, "pg_default", _OWNER)]),
}

_EMPTY = {
    "pg_attrdef": "oid adrelid adnum adbin:VARCHAR",
    "pg_index": "indexrelid indrelid indnatts indnkeyatts indisunique:BOOLEAN indnullsnotdistinct:BOOLEAN "
    "indisprimary:BOOLEAN indisexclusion:BOOLEAN indimmediate:BOOLEAN indisclustered:BOOLEAN indisvalid:BOOLEAN "
    "indcheckxmin:BOOLEAN indisready:BOOLEAN indislive:BOOLEAN indisreplident:BOOLEAN indkey:INTEGER[] "
    "indcollation:INTEGER[] indclass:INTEGER[] indoption:INTEGER[] indexprs:VARCHAR indpred:VARCHAR",
    "pg_constraint": "oid conname:VARCHAR connamespace contype:VARCHAR condeferrable:BOOLEAN condeferred:BOOLEAN "
    "convalidated:BOOLEAN conrelid contypid conindid conparentid confrelid confupdtype:VARCHAR confdeltype:VARCHAR "
    "confmatchtype:VARCHAR conislocal:BOOLEAN coninhcount connoinherit:BOOLEAN conkey:INTEGER[] confkey:INTEGER[] "
    "conpfeqop:INTEGER[] conbin:VARCHAR",
    "pg_inherits": "inhrelid inhparent inhseqno inhdetachpending:BOOLEAN",
    "pg_trigger": "oid tgrelid tgparentid tgname:VARCHAR tgfoid tgtype tgenabled:VARCHAR tgisinternal:BOOLEAN "
    "tgconstrrelid tgconstrindid tgconstraint tgdeferrable:BOOLEAN tginitdeferred:BOOLEAN tgnargs",
    "pg_policy": "oid polname:VARCHAR polrelid polcmd:VARCHAR polpermissive:BOOLEAN polroles:INTEGER[] polqual:VARCHAR "
    "polwithcheck:VARCHAR",
    "pg_rewrite": "oid rulename:VARCHAR ev_class ev_type:VARCHAR ev_enabled:VARCHAR is_instead:BOOLEAN",
    "pg_statistic_ext": "oid stxrelid stxname:VARCHAR stxnamespace stxowner stxstattarget stxkeys:INTEGER[] "
    "stxkind:VARCHAR[] stxexprs:VARCHAR",
    "pg_publication": "oid pubname:VARCHAR puballtables:BOOLEAN pubowner pubinsert:BOOLEAN pubupdate:BOOLEAN "
    "pubdelete:BOOLEAN pubtruncate:BOOLEAN pubviaroot:BOOLEAN",
    "pg_publication_rel": "oid prpubid prrelid prqual:VARCHAR prattrs:INTEGER[]",
    "pg_publication_namespace": "oid pnpubid pnnspid",
    "pg_extension": "oid extname:VARCHAR extowner extnamespace extrelocatable:BOOLEAN extversion:VARCHAR",
    "pg_available_extensions": "name:VARCHAR default_version:VARCHAR installed_version:VARCHAR comment:VARCHAR",
    "pg_collation": "oid collname:VARCHAR collnamespace collowner collprovider:VARCHAR collisdeterministic:BOOLEAN "
    "collencoding collcollate:VARCHAR collctype:VARCHAR colliculocale:VARCHAR collversion:VARCHAR",
    "pg_proc": "oid proname:VARCHAR pronamespace proowner prolang prokind:VARCHAR prorettype pronargs "
    "proretset:BOOLEAN proargtypes:INTEGER[] proallargtypes:INTEGER[] proargmodes:VARCHAR[] "
    "proargnames:VARCHAR[] prosrc:VARCHAR provolatile:VARCHAR proparallel:VARCHAR prosecdef:BOOLEAN "
    "proacl:VARCHAR[] provariadic",
    "pg_enum": "oid enumtypid enumsortorder:FLOAT enumlabel:VARCHAR",
    "pg_range": "rngtypid rngsubtype rngmultitypid rngcollation rngsubopc",
    "pg_sequence": "seqrelid seqtypid seqstart seqincrement seqmax seqmin seqcache seqcycle:BOOLEAN",
    "pg_sequences": "schemaname:VARCHAR sequencename:VARCHAR sequenceowner:VARCHAR",
    "pg_matviews": "schemaname:VARCHAR matviewname:VARCHAR matviewowner:VARCHAR definition:VARCHAR",
    "pg_indexes": "schemaname:VARCHAR tablename:VARCHAR indexname:VARCHAR tablespace:VARCHAR indexdef:VARCHAR",
    "pg_partitioned_table": "partrelid partstrat:VARCHAR partnatts partdefid partattrs:INTEGER[]",
    "pg_foreign_table": "ftrelid ftserver ftoptions:VARCHAR[]",
    "pg_foreign_server": "oid srvname:VARCHAR srvowner srvfdw",
    "pg_foreign_data_wrapper": "oid fdwname:VARCHAR fdwowner",
    "pg_depend": "classid objid objsubid refclassid refobjid refobjsubid deptype:VARCHAR",
    "pg_shdescription": "objoid classoid description:VARCHAR",
    "pg_opclass": "oid opcname:VARCHAR opcmethod opcnamespace opcowner opcfamily opcintype opcdefault:BOOLEAN",
    "pg_operator": "oid oprname:VARCHAR oprnamespace oprowner oprkind:VARCHAR oprleft oprright oprresult",
    "pg_language": "oid lanname:VARCHAR lanowner lanispl:BOOLEAN",
    "pg_event_trigger": "oid evtname:VARCHAR evtevent:VARCHAR evtowner evtenabled:VARCHAR",
    "pg_auth_members": "oid roleid member grantor admin_option:BOOLEAN",
    "pg_stat_activity": "datid datname:VARCHAR pid usesysid usename:VARCHAR application_name:VARCHAR state:VARCHAR "
    "query:VARCHAR",
    "pg_stat_user_tables": "relid schemaname:VARCHAR relname:VARCHAR seq_scan n_live_tup n_dead_tup",
    "pg_stat_ssl": "pid ssl:BOOLEAN version:VARCHAR cipher:VARCHAR",
    "pg_locks": "locktype:VARCHAR database relation pid mode:VARCHAR granted:BOOLEAN",
}

INFORMATION_VIEWS = {
    "schemata": f"""SELECT '{DATABASE}' AS catalog_name, nspname AS schema_name, 'fleetlake' AS schema_owner,
        NULL::VARCHAR AS default_character_set_catalog, NULL::VARCHAR AS default_character_set_schema,
        NULL::VARCHAR AS default_character_set_name, NULL::VARCHAR AS sql_path FROM memory.pg.pg_namespace""",
    "tables": f"""SELECT '{DATABASE}' AS table_catalog, '{SCHEMA}' AS table_schema, name AS table_name,
        CASE kind WHEN 'r' THEN 'BASE TABLE' ELSE 'VIEW' END AS table_type,
        NULL::VARCHAR AS self_referencing_column_name, NULL::VARCHAR AS reference_generation,
        NULL::VARCHAR AS user_defined_type_catalog, NULL::VARCHAR AS user_defined_type_schema,
        NULL::VARCHAR AS user_defined_type_name, 'NO' AS is_insertable_into, 'NO' AS is_typed,
        NULL::VARCHAR AS commit_action FROM ({_RELATIONS})""",
    "views": f"""SELECT '{DATABASE}' AS table_catalog, schemaname AS table_schema, viewname AS table_name,
        definition AS view_definition, 'NONE' AS check_option, 'NO' AS is_updatable FROM memory.pg.pg_views""",
    "columns": f"""SELECT '{DATABASE}' AS table_catalog, '{SCHEMA}' AS table_schema, table_name, column_name,
        column_index AS ordinal_position, NULL::VARCHAR AS column_default,
        CASE WHEN is_nullable THEN 'YES' ELSE 'NO' END AS is_nullable,
        {_by_type("data_type", lambda _, name: literal(name))} AS data_type,
        NULL::INTEGER AS character_maximum_length, NULL::INTEGER AS character_octet_length,
        numeric_precision, numeric_precision_radix, numeric_scale, NULL::INTEGER AS datetime_precision,
        '{DATABASE}' AS udt_catalog, 'pg_catalog' AS udt_schema,
        (SELECT any_value(t.typname) FROM memory.pg.pg_type t
         WHERE t.oid = {_by_type("data_type", lambda one, _: str(one.oid))}) AS udt_name,
        'NO' AS is_identity, NULL::VARCHAR AS identity_generation, 'NEVER' AS is_generated,
        NULL::VARCHAR AS generation_expression, 'NO' AS is_updatable FROM ({_COLUMNS})""",
    "table_constraints": _empty(
        "constraint_catalog:VARCHAR constraint_schema:VARCHAR constraint_name:VARCHAR table_catalog:VARCHAR "
        "table_schema:VARCHAR table_name:VARCHAR constraint_type:VARCHAR is_deferrable:VARCHAR "
        "initially_deferred:VARCHAR"
    ),
    "key_column_usage": _empty(
        "constraint_catalog:VARCHAR constraint_schema:VARCHAR constraint_name:VARCHAR table_catalog:VARCHAR "
        "table_schema:VARCHAR table_name:VARCHAR column_name:VARCHAR ordinal_position position_in_unique_constraint"
    ),
    "constraint_column_usage": _empty(
        "table_catalog:VARCHAR table_schema:VARCHAR table_name:VARCHAR column_name:VARCHAR constraint_catalog:VARCHAR "
        "constraint_schema:VARCHAR constraint_name:VARCHAR"
    ),
    "referential_constraints": _empty(
        "constraint_catalog:VARCHAR constraint_schema:VARCHAR constraint_name:VARCHAR unique_constraint_name:VARCHAR"
    ),
    "table_privileges": _empty("grantor:VARCHAR grantee:VARCHAR table_name:VARCHAR privilege_type:VARCHAR"),
    "role_table_grants": _empty("grantor:VARCHAR grantee:VARCHAR table_name:VARCHAR privilege_type:VARCHAR"),
    "routines": _empty("specific_name:VARCHAR routine_schema:VARCHAR routine_name:VARCHAR routine_type:VARCHAR"),
    "sequences": _empty("sequence_catalog:VARCHAR sequence_schema:VARCHAR sequence_name:VARCHAR"),
    "triggers": _empty("trigger_schema:VARCHAR trigger_name:VARCHAR event_object_table:VARCHAR"),
}
"""The views of `information_schema`. All of them are ours: DuckDB's show its own schemas, too."""

COLUMN_TYPES = f"""SELECT column_name, any_value({_by_type("data_type", lambda one, _: str(one.oid))})
    FROM ({_COLUMNS}) GROUP BY column_name HAVING count(DISTINCT data_type) = 1"""
"""The types of columns whose name has one type in all tables."""

_OWN_NAMES = "|".join(sorted({*_MACROS, *_TYPE_NAMES}))
MENTIONED = re.compile(rf"pg_|{INFORMATION_SCHEMA}|\b({_OWN_NAMES})\b", re.IGNORECASE)
"""Matches a statement that uses the catalogues. Only then are they made: that takes longer than most queries."""
