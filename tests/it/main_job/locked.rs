//! Another program that holds the database's lock for longer than anyone waits for it.

use std::sync::Arc;
use std::time::Duration;

use sqlx::{Connection as _, SqliteConnection};
use tokio::sync::Barrier;

use crate::support::program::{Headpond, eventually, files_config, get};
use crate::support::raw_server::RawServer;
use crate::support::store::{Database, on_database};

on_database!(on_sqlite, crate::support::store::Database::sqlite(), a_refresh_given_up_for_a_lock_stops_no_other);

/// How many resources wait to be allowed their redirect while the lock is held.
const WAITING: usize = 3;

const NEW: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nnew";

/// The first of them that gives up returns its lease while the others wait for the same writer.
async fn a_refresh_given_up_for_a_lock_stops_no_other(database: &Database) {
    // The upstream meets us twice: when all have asked, and when they may be answered.
    let meeting = Arc::new(Barrier::new(WAITING + 1));
    let meets = Arc::clone(&meeting);
    let upstream = RawServer::start(move |mut connection| {
        let meeting = Arc::clone(&meets);
        async move {
            connection.request().await;
            if connection.number < WAITING {
                meeting.wait().await;
                meeting.wait().await;
                connection.say(b"HTTP/1.1 302 Found\r\nLocation: /new\r\nContent-Length: 0\r\n\r\n").await;
            } else {
                connection.say(NEW).await;
            }
            while connection.request().await {
                connection.say(NEW).await;
            }
        }
    })
    .await;
    let origin = upstream.url("").to_string();
    let keys = u32::try_from(WAITING).unwrap();
    let config = files_config(database, origin.trim_end_matches('/'), keys, "", "refresh_every = \"1h\"");
    let headpond = Headpond::with_config(&config);
    let serving = headpond.serve().await;

    meeting.wait().await;
    let mut other = SqliteConnection::connect(&database.url()).await.unwrap();
    let lock = other.begin_with("BEGIN IMMEDIATE").await.unwrap();
    meeting.wait().await;
    serving.logged("a refresh was given up").await;
    lock.rollback().await.unwrap();

    for key in 1..=keys {
        eventually("what was given up, and what was not", Duration::from_secs(60), async || {
            get(&serving.url(&format!("/v1/users/{key}"))).await.ok().filter(|answer| answer.status() == 200)
        })
        .await;
    }
    serving.stop().await;
}
