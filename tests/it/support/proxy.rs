//! A way to a server that can be cut, as a cable or a firewall is.

use std::net::{Ipv4Addr, SocketAddr};

use sqlx::ConnectOptions;
use sqlx::postgres::PgConnectOptions;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use super::store::Database;

/// Passes connections on, until it is cut.
pub struct Proxy {
    pub address: SocketAddr,
    target: (String, u16),
    passing: Option<JoinHandle<()>>,
}

impl Proxy {
    /// A way to this database's server, and the database's URL by that way.
    pub async fn to_postgres(database: &Database) -> (Self, String) {
        let options: PgConnectOptions = database.url().parse().unwrap();
        let target = target(&options);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let passing = Some(tokio::spawn(pass(listener, target.clone())));
        let url = options.host("127.0.0.1").port(address.port()).to_url_lossy().to_string();
        (Self { address, target, passing }, url)
    }

    /// Ends all connections; new ones are refused from now on.
    pub async fn cut(&mut self) {
        let passing = self.passing.take().expect("a way that is not cut");
        passing.abort();
        _ = passing.await;
    }

    /// Lets connections through again, to another server: the one of this URL.
    pub async fn mend_to(&mut self, postgres: &str) {
        self.target = target(&postgres.parse().unwrap());
        self.mend().await;
    }

    /// Lets connections through again.
    pub async fn mend(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.passing = Some(tokio::spawn(pass(listener, self.target.clone())));
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(passing) = &self.passing {
            passing.abort();
        }
    }
}

fn target(postgres: &PgConnectOptions) -> (String, u16) {
    (postgres.get_host().to_owned(), postgres.get_port())
}

async fn pass(listener: TcpListener, target: (String, u16)) {
    // They end with this set.
    let mut connections = JoinSet::new();
    loop {
        let (mut from, _) = listener.accept().await.unwrap();
        let target = target.clone();
        connections.spawn(async move {
            let mut to = TcpStream::connect(target).await?;
            tokio::io::copy_bidirectional(&mut from, &mut to).await
        });
    }
}
