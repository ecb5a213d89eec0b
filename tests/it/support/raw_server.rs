//! Servers that say exactly what they are told to, be it HTTP or not.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use url::Url;

/// The certificate of [`tls_server`]: for `localhost`, signed by itself.
pub const CERTIFICATE: &[u8] = include_bytes!("tls/localhost.cert.pem");
/// A client's certificate, signed by itself, and its key; and one that expired in 2021.
pub const CLIENT: &[u8] = include_bytes!("tls/client.cert.pem");
pub const CLIENT_KEY: &[u8] = include_bytes!("tls/client.key.pem");
pub const EXPIRED: &[u8] = include_bytes!("tls/expired.cert.pem");
/// Of the same server, signed by the same key, but expired in 2021.
const EXPIRED_SERVER: &[u8] = include_bytes!("tls/localhost-expired.cert.pem");
const KEY: &[u8] = include_bytes!("tls/localhost.key.pem");

/// A server on a port of its own, until it is dropped.
pub struct RawServer {
    address: SocketAddr,
    requests: Requests,
    task: JoinHandle<()>,
}

/// The heads of the requests that came, as bytes.
type Requests = Arc<Mutex<Vec<Vec<u8>>>>;

impl RawServer {
    /// Runs `serve` for each connection.
    pub async fn start<F, R>(serve: F) -> Self
    where
        F: Fn(Connection) -> R + Send + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Requests::default();
        let seen = requests.clone();
        let task = tokio::spawn(async move {
            for number in 0.. {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(Connection { number, stream, requests: seen.clone() }));
            }
        });
        Self { address, requests, task }
    }

    /// Answers each request with these bytes, and closes the connection.
    pub async fn saying(bytes: impl AsRef<[u8]>) -> Self {
        Self::answering(bytes, |_| ()).await
    }

    /// Answers each request with these bytes, and then says nothing more.
    pub async fn saying_and_stalling(bytes: impl AsRef<[u8]>) -> Self {
        Self::answering(bytes, |connection| drop(tokio::spawn(connection.stall()))).await
    }

    /// Answers each request with these bytes, and resets the connection.
    pub async fn saying_and_resetting(bytes: impl AsRef<[u8]>) -> Self {
        Self::answering(bytes, |connection| connection.stream.set_zero_linger().unwrap()).await
    }

    async fn answering(bytes: impl AsRef<[u8]>, then: fn(Connection)) -> Self {
        let bytes: Arc<[u8]> = bytes.as_ref().into();
        Self::start(move |mut connection| {
            let bytes = bytes.clone();
            async move {
                connection.request().await;
                connection.say(&bytes).await;
                then(connection);
            }
        })
        .await
    }

    /// A URL on this server.
    pub fn url(&self, path: &str) -> Url {
        format!("http://{}{path}", self.address).parse().unwrap()
    }

    /// The heads of the requests that came so far.
    pub fn requests(&self) -> Vec<Vec<u8>> {
        self.requests.lock().unwrap().clone()
    }
}

impl Drop for RawServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One client's connection.
pub struct Connection {
    /// Counted from 0.
    pub number: usize,
    stream: TcpStream,
    requests: Requests,
}

impl Connection {
    /// Reads the next request's head; false when the client has closed instead.
    pub async fn request(&mut self) -> bool {
        self.head().await.is_some()
    }

    /// The next request's head; `None` when the client has closed instead.
    pub async fn head(&mut self) -> Option<String> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.stream.read_u8().await.ok()?);
        }
        self.requests.lock().unwrap().push(head.clone());
        Some(String::from_utf8_lossy(&head).into_owned())
    }

    /// Sends bytes; false when the client is gone.
    pub async fn say(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).await.is_ok()
    }

    /// Says nothing, and returns when the client has closed.
    pub async fn stall(mut self) {
        while matches!(self.stream.read(&mut [0; 1024]).await, Ok(read) if read > 0) {}
    }
}

/// A TLS server with [`CERTIFICATE`] that answers each connection's first request with these bytes.
pub fn tls_server(answer: &'static [u8]) -> SocketAddr {
    serve_tls(CERTIFICATE, None, answer)
}

/// The same, for clients alone that have this certificate.
pub fn tls_server_for(client: &[u8], answer: &'static [u8]) -> SocketAddr {
    serve_tls(CERTIFICATE, Some(client), answer)
}

/// The same, but its certificate has expired.
pub fn expired_tls_server(answer: &'static [u8]) -> SocketAddr {
    serve_tls(EXPIRED_SERVER, None, answer)
}

fn serve_tls(certificate: &[u8], client: Option<&[u8]>, answer: &'static [u8]) -> SocketAddr {
    let certificate = CertificateDer::from_pem_slice(certificate).unwrap();
    let key = PrivateKeyDer::from_pem_slice(KEY).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider.clone());
    let builder = builder.with_safe_default_protocol_versions().unwrap();
    let builder = match client {
        None => builder.with_no_client_auth(),
        Some(pem) => {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(CertificateDer::from_pem_slice(pem).unwrap()).unwrap();
            let clients = WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build().unwrap();
            builder.with_client_cert_verifier(clients)
        }
    };
    let config = builder.with_single_cert(vec![certificate], key).unwrap();
    let config = Arc::new(config);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // A plain thread, which ends with the process: rustls's blocking stream needs no further crate.
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let connection = rustls::ServerConnection::new(config.clone()).unwrap();
            let mut tls = rustls::StreamOwned::new(connection, stream.unwrap());
            // A client that doesn't trust us breaks the handshake off.
            if tls.read(&mut [0; 4096]).is_ok() {
                _ = tls.write_all(answer);
                tls.conn.send_close_notify();
                _ = tls.flush();
            }
        }
    });
    address
}
