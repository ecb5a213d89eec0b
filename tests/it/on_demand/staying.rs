//! What becomes of keys later: with nobody polling, and when they are not read.

use std::sync::Arc;
use std::time::Duration;

use headpond::refresh::readers::{retire_unread, store_reads};
use headpond::store::Reads;

use super::{PATIENCE, config, read};
use crate::refresh::{Process, users};
use crate::support::nginx::{Nginx, write_json_files};
use crate::support::program::{Headpond, client, eventually};
use crate::support::store::{Database, TestStore, key, on_each_database, on_each_empty_database};

mod whole {
    use super::*;
    on_each_empty_database!(a_stale_copy_is_answered_and_refreshed_for_its_readers_alone);

    async fn a_stale_copy_is_answered_and_refreshed_for_its_readers_alone(database: &Database) {
        let files = tempfile::tempdir().unwrap();
        write_json_files(files.path(), "users", 1..=1, "old");
        let nginx = Nginx::start(files.path()).await;
        let more = "on_demand = true\npoll = false\nstale_after = \"1s\"";
        let headpond = Headpond::with_config(&config(database, &nginx.url(), more));
        let serving = headpond.serve().await;
        let client = client();
        assert!(read(&client, serving.url("/v1/users/1")).await.2.contains("old"));
        eventually("stale", PATIENCE, async || {
            let (_, meta) = crate::support::program::get_json(&serving.url("/v1/users/1/meta")).await;
            (meta["state"] == "stale").then_some(())
        })
        .await;
        write_json_files(files.path(), "users", 1..=1, "new");
        assert_eq!(nginx.requests().len(), 1, "nobody read it");
        let (status, way, body) = read(&client, serving.url("/v1/users/1")).await;
        assert_eq!((status, body.contains("old"), way.starts_with("headpond;hit;ttl=-")), (200, true, true), "{way}");
        eventually("the new one", PATIENCE, async || {
            read(&client, serving.url("/v1/users/1")).await.2.contains("new").then_some(())
        })
        .await;
        serving.stop().await;
    }
}

mod step {
    use super::*;
    on_each_database!(what_is_read_stays_and_what_is_not_goes);

    async fn what_is_read_stays_and_what_is_not_goes(test: &TestStore) {
        let process =
            Process::with_config(test, &users("http://127.0.0.1:9", &[], "on_demand = { idle_after = \"1h\" }")).await;
        let (source, _) = process.refresher.roster.sources().next().unwrap();
        let mut ids = Vec::new();
        for name in ["a", "b"] {
            test.store.demand(source, &key(name), 10).await.unwrap();
            ids.push(test.current("users", name).await.resource);
        }
        let (reads, polled) =
            (Arc::new(Reads::default()), async || test.store.find(source, &[key("a"), key("b")]).await);
        for _ in 0..3 {
            test.clock.advance(Duration::from_secs(40 * 60));
            reads.note(ids[1]);
            store_reads(&process.refresher, &reads).await.unwrap();
            retire_unread(&process.refresher).await.unwrap();
        }
        assert_eq!(polled().await.unwrap(), [None, Some(ids[1])]);
    }
}
