//! `[server]` and `[database]`.

use secrecy::SecretString;

use super::reader::Reader;
use super::section::{Layers, Section};
use super::settings as set;
use super::{Database, Server, TableHome, tokens};

/// Reads `[server]`.
pub(super) fn server(reader: &mut Reader<'_>, section: &Section<'_>) -> Option<Server> {
    let layers = Layers { sections: vec![section] };
    check_anonymous_reads(reader, section, &layers);
    let read_tokens = tokens::of(reader, section, &set::READ_TOKENS);
    let admin_tokens = tokens::of(reader, section, &set::ADMIN_TOKENS);
    let cors_origins = layers.get(reader, &set::CORS_ORIGINS);
    let listen = layers.get(reader, &set::LISTEN);
    let max_connections = layers.get(reader, &set::MAX_CONNECTIONS);
    let max_streams = max_connections.and_then(|connections| max_streams(reader, &layers, connections));
    let shutdown_grace = layers.get(reader, &set::SHUTDOWN_GRACE);
    let header_timeout = layers.get(reader, &set::HEADER_TIMEOUT);
    let request_timeout = layers.get(reader, &set::REQUEST_TIMEOUT);
    let idle_timeout = layers.get(reader, &set::IDLE_TIMEOUT);
    Some(Server {
        listen: listen?,
        read_tokens: read_tokens?,
        admin_tokens: admin_tokens?,
        cors_origins: cors_origins?,
        max_connections: max_connections?,
        max_streams: max_streams?,
        shutdown_grace: shutdown_grace?,
        header_timeout: header_timeout?,
        request_timeout: request_timeout?,
        idle_timeout: idle_timeout?,
    })
}

/// The most streams, where nothing is said of them.
const STREAMS: u32 = 1_000;

/// Streams hold their connections: some are left for all else.
fn max_streams(reader: &mut Reader<'_>, layers: &Layers<'_, '_>, connections: u32) -> Option<usize> {
    let streams = if layers.has(&set::MAX_STREAMS) {
        let found = layers.find(reader, &set::MAX_STREAMS)?;
        if found.value >= connections {
            let problem =
                format!("would leave none of the {connections} connections of max_connections for other readers");
            reader.error(&found.at, problem, "set it lower, or max_connections higher");
            return None;
        }
        found.value
    } else {
        STREAMS.min(connections / 2)
    };
    usize::try_from(streams).ok()
}

/// Refuses to show everything to other machines by mistake.
fn check_anonymous_reads(reader: &mut Reader<'_>, section: &Section<'_>, layers: &Layers<'_, '_>) {
    let allowed = layers.get(reader, &set::ALLOW_ANONYMOUS_READS);
    if section.value(&set::READ_TOKENS).is_some() {
        if let Some(allowed) = section.find(reader, &set::ALLOW_ANONYMOUS_READS).filter(|allowed| allowed.value) {
            reader.warn(&allowed.at, "has no effect beside read_tokens: who reads needs one", "leave one of them out");
        }
    } else if allowed == Some(false)
        && let Some(listen) = section.find(reader, &set::LISTEN)
        && !listen.value.ip().to_canonical().is_loopback()
    {
        let problem = "whoever reaches this address could read everything, since read_tokens is not set";
        reader.error(&listen.at, problem, "set read_tokens, listen on 127.0.0.1, or set allow_anonymous_reads = true");
    }
}

/// Reads `[database]`.
pub(super) fn database(reader: &mut Reader<'_>, section: &Section<'_>) -> Option<Database> {
    let layers = Layers { sections: vec![section] };
    let url = layers.get(reader, &set::URL_OF_DATABASE);
    let readers = layers.get(reader, &set::READERS);
    let retention = layers.get(reader, &set::RETENTION);
    let keep_changes = layers.get(reader, &set::KEEP_CHANGES);
    let schema = layers.get(reader, &set::TABLE_SCHEMA);
    let grant_select_to = layers.get(reader, &set::GRANT_SELECT_TO);
    let allow_table_changes = layers.get(reader, &set::ALLOW_TABLE_CHANGES);
    let url = url?.text;
    if url.starts_with("sqlite:") {
        check_no_roles(reader, section);
    }
    Some(Database {
        url: SecretString::from(url),
        readers: readers?,
        retention: retention?,
        keep_changes: keep_changes?,
        tables: TableHome { schema: schema?, grant_select_to: grant_select_to? },
        allow_table_changes: allow_table_changes?,
    })
}

/// Notes what has no meaning on SQLite, which has no roles.
fn check_no_roles(reader: &mut Reader<'_>, section: &Section<'_>) {
    if let Some(value) = section.value(&set::GRANT_SELECT_TO).filter(|value| !value.is_empty_list()) {
        let at = value.spot().named(value.path);
        reader.warn(&at, "has no meaning on SQLite, where whoever reads the file reads all", "leave it out");
    }
}
