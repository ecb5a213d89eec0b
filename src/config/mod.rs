//! The configuration, checked. Nothing behind this room sees raw strings.
//!
//! [`load`] reads TOML, with what environment variables put in its place (`overrides.rs`), in three steps, and each goes
//! on after what it finds wrong, so that all errors come at once: the document (`document.rs`), its tables, whose names and
//! values are checked against the one list of settings (`section.rs`, `settings.rs`), and the sources, whose settings are
//! looked up in their own table, in their upstream's and in `[defaults]` (`source.rs`, `policy.rs`, `keys.rs`).

mod allowance;
mod ask;
mod batch;
mod body;
mod budgets;
mod certificates;
mod collection;
mod credentials;
mod document;
mod environment;
mod error;
mod fields;
mod headers;
mod history;
mod keys;
mod keys_from;
mod kinds;
mod nearest;
mod on_demand;
mod origins;
mod overrides;
mod policy;
mod preset;
mod reader;
mod section;
mod server;
mod setting;
mod settings;
mod shortfall;
mod source;
mod table;
mod tokens;
mod transport;
mod upstream;
mod value;
mod webhook;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method};
use secrecy::SecretString;
use url::Url;

use crate::domain::batch::Batch;
use crate::domain::change::ChangeKind;
use crate::domain::collection::Collection;
use crate::domain::history::History;
use crate::domain::limit::Limits;
use crate::domain::policy::Policy;
use crate::domain::resource::{Key, Params, SourceName};
use crate::domain::template::UrlTemplate;
use crate::domain::webhook::Secret;

pub use ask::{Ask, BadAsk, Body};
pub use certificates::ClientCertificate;
pub use credentials::{Credentials, OAuth2, SendsSecret};
pub use document::{Loaded, load};
pub use environment::{Environment, ProcessEnvironment};
pub use error::{ConfigError, ConfigErrors};
pub use keys_from::{FanOut, KeyFormat, KeyPlace, KeysFrom};
pub use on_demand::OnDemand;
pub use shortfall::Shortfall;
pub use transport::{Proxy, RedirectHost, Transport};
pub use upstream::needed;

/// A whole configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// `[server]`.
    pub server: Server,
    /// `[database]`.
    pub database: Database,
    /// `[upstreams.*]`, and one for each origin of a source that names none.
    pub upstreams: BTreeMap<String, Upstream>,
    /// `[sources.*]`, in the order of their names.
    pub sources: Vec<Source>,
    /// `[[webhooks]]`.
    pub webhooks: Vec<Webhook>,
}

/// Who is told of changes.
#[derive(Clone)]
pub struct Webhook {
    /// Its name.
    pub name: String,
    /// Where it is told.
    pub url: Url,
    /// What messages are signed with.
    pub secret: Secret,
    /// Of which sources; `None` is all.
    pub sources: Option<Vec<SourceName>>,
    /// Of which changes; `None` is all.
    pub kinds: Option<Vec<ChangeKind>>,
    /// Whether the resources come with their changes.
    pub includes_data: bool,
    /// How long an answer may take.
    pub timeout: Duration,
    /// After how long without success it is given up.
    pub give_up_after: Duration,
}

impl std::fmt::Debug for Webhook {
    /// Without the URL's path and query, which may have a credential in it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Webhook")
            .field("name", &self.name)
            .field("origin", &self.url.origin().ascii_serialization())
            .field("sources", &self.sources)
            .field("kinds", &self.kinds)
            .field("includes_data", &self.includes_data)
            .field("timeout", &self.timeout)
            .field("give_up_after", &self.give_up_after)
            .finish_non_exhaustive()
    }
}

/// How the read API is served.
#[derive(Debug, Clone)]
pub struct Server {
    /// The address to listen on.
    pub listen: SocketAddr,
    /// Who may read the sources without tokens of their own. With none, everyone may.
    pub read_tokens: Vec<SecretString>,
    /// Who may administer, and read everything.
    pub admin_tokens: Vec<SecretString>,
    /// The web pages that may read.
    pub cors_origins: CorsOrigins,
    /// Readers' connections at the same time.
    pub max_connections: u32,
    /// Answers that go on for long (events, whole sources), at the same time.
    pub max_streams: usize,
    /// How long work under way may take to finish after SIGTERM.
    pub shutdown_grace: Duration,
    /// How long a client may take to send a request's headers.
    pub header_timeout: Duration,
    /// How long a request may take to be answered.
    pub request_timeout: Duration,
    /// How long a connection may be idle between requests.
    pub idle_timeout: Duration,
}

/// Origins of web pages, as browsers write them in `Origin`: `https://app.example`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CorsOrigins {
    /// These; none when there are none.
    These(Vec<HeaderValue>),
    /// All.
    All,
}

/// Where the copy is kept.
#[derive(Debug, Clone)]
pub struct Database {
    /// `sqlite://path` or `postgres://…`. Secret, because it may have a password in it.
    pub url: SecretString,
    /// Connections for reading.
    pub readers: u32,
    /// How long a key that is no longer polled keeps its data.
    pub retention: Duration,
    /// How long entries of the change feed are kept.
    pub keep_changes: Duration,
    /// Where the views of typed tables are, and who may read them.
    pub tables: TableHome,
    /// Whether typed tables may lose columns, rows or their names when the configuration says so.
    pub allow_table_changes: bool,
}

/// Where the views of typed tables are on Postgres, and who may read them. SQLite has neither schemas nor roles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableHome {
    /// The schema.
    pub schema: String,
    /// The roles that may read them.
    pub grant_select_to: Vec<String>,
}

/// A limit group.
#[derive(Debug, Clone)]
pub struct Upstream {
    /// Its rate and concurrency.
    pub limits: Limits,
    /// The longest `timeout` of its sources: what a lease must outlast.
    pub longest_timeout: Duration,
    /// How connections are made.
    pub transport: Transport,
    /// What is shown with each request.
    pub credentials: Credentials,
}

/// One kind of upstream resource.
#[derive(Clone)]
pub struct Source {
    /// Its name.
    pub name: SourceName,
    /// The name of its upstream, a key of [`Config::upstreams`].
    pub upstream: String,
    /// Where its resources are.
    pub url: UrlTemplate,
    /// The keys that the config lists; each makes a URL with the template.
    pub keys: Arc<[(Key, Params)]>,
    /// Where else its keys come from.
    pub keys_from: Vec<KeysFrom>,
    /// What makes it a collection, whose keys are those that the upstream lists.
    pub collection: Option<Arc<Collection>>,
    /// How many keys one request asks for, where it is more than one.
    pub batch: Option<Batch>,
    /// Whether readers may ask for other keys, and how.
    pub on_demand: Option<OnDemand>,
    /// Who may read it, besides those who administer; with none, whoever the server's tokens let in.
    pub read_tokens: Vec<SecretString>,
    /// When to refresh, and what counts as fresh, failed, gone and changed.
    pub policy: Policy,
    /// The share of its keys that may become gone within one interval, 0 to 1.
    pub max_delete_share: f64,
    /// How many decimals of coordinates are sent; `None` is all.
    pub coordinate_decimals: Option<u32>,
    /// What is kept of contents that were replaced.
    pub history: Option<History>,
    /// Whether what is gone upstream is erased.
    pub erase_gone: bool,
    /// How to ask.
    pub request: RequestSettings,
}

impl std::fmt::Debug for Source {
    /// Without the URL's path and query, which may have a credential in it, and without its keys, which may be many.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source")
            .field("name", &self.name)
            .field("upstream", &self.upstream)
            .field("origin", &self.url.origin())
            .field("keys", &self.keys.len())
            .field("keys_from", &self.keys_from)
            .field("collection", &self.collection)
            .field("batch", &self.batch)
            .field("on_demand", &self.on_demand)
            .field("read_tokens", &self.read_tokens.len())
            .field("policy", &self.policy)
            .field("max_delete_share", &self.max_delete_share)
            .field("coordinate_decimals", &self.coordinate_decimals)
            .field("history", &self.history)
            .field("erase_gone", &self.erase_gone)
            .field("request", &self.request)
            .finish()
    }
}

/// What every request of a source carries and may take.
#[derive(Clone)]
pub struct RequestSettings {
    /// GET, or POST for what only answers to that.
    pub method: Method,
    /// What is sent with a POST.
    pub body: Option<Body>,
    /// Header fields to send. Values may be secret: `Debug` shows names only.
    pub headers: HeaderMap,
    /// The User-Agent.
    pub user_agent: HeaderValue,
    /// The other hosts that redirects may lead to.
    pub redirect_hosts: Vec<RedirectHost>,
    /// What the body of a 403 or 429 says where that is a limit and no refusal.
    pub limit_phrases: Vec<String>,
    /// The total deadline, from connecting to the last byte, redirects included.
    pub timeout: Duration,
    /// The largest body, in bytes after decompression.
    pub max_body: u64,
}

impl std::fmt::Debug for RequestSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RequestSettings")
            .field("method", &self.method)
            .field("body", &self.body)
            .field("redirect_hosts", &self.redirect_hosts)
            .field("limit_phrases", &self.limit_phrases)
            .field("headers", &self.headers.keys().collect::<Vec<_>>())
            .field("user_agent", &self.user_agent)
            .field("timeout", &self.timeout)
            .field("max_body", &self.max_body)
            .finish()
    }
}
