//! `headpond check`.

use std::path::Path;

use super::assemble;
use super::outcome::{CliError, Exit};
use crate::config::Source;
use crate::domain::schedule::Cadence;

/// Arguments of `check`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {}

#[expect(clippy::print_stdout, reason = "the command's result")]
pub(super) fn run(config_path: &Path, _: &Args) -> Result<Exit, CliError> {
    let config = assemble::config(config_path)?;
    println!("{}: good", config_path.display());
    for (name, upstream) in &config.upstreams {
        let rate = match upstream.limits.requests_per_second {
            Some(rate) => format!("{rate} requests/s, burst {}", upstream.limits.burst),
            None => "no limit on requests/s".into(),
        };
        println!("upstream {name}: {rate}, {} at once", upstream.limits.max_concurrent);
    }
    for source in &config.sources {
        println!(
            "source {}: {} keys, {}, from {}",
            source.name,
            source.keys.len(),
            cadence(source),
            source.url.origin()
        );
    }
    Ok(Exit::Well)
}

fn cadence(source: &Source) -> String {
    match &source.policy.cadence {
        Cadence::Every(interval) => format!("every {}", humantime::format_duration(*interval)),
        Cadence::Cron(rule) => format!("at {rule}"),
    }
}
