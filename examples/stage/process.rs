//! Processes that an example starts, kills and starts again.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::process::{Child, Command};

use super::{PATIENCE, Result, Upstream};

/// The environment variable that tells the program which part it plays.
pub const PART: &str = "HEADPOND_EXAMPLE_PART";

/// A process that listens on a port of its own, the same after each start. It is killed when this is dropped.
pub struct Service {
    part: &'static str,
    address: SocketAddr,
    command: Command,
    log: PathBuf,
    child: Option<Child>,
    /// Keeps its port from others while the process is not there, on systems that let it.
    _held: Option<TcpSocket>,
}

impl Service {
    /// One that plays this part, and has not been started. It writes what it has to say into a file in `directory`.
    pub(super) fn new(
        part: &'static str,
        directory: impl AsRef<Path>,
        prepare: impl FnOnce(&mut Command, &str),
    ) -> Result<Self> {
        let held = TcpSocket::new_v4()?;
        held.set_reuseaddr(true)?;
        held.bind(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0).into())?;
        let address = held.local_addr()?;
        let mut command = Command::new(std::env::current_exe()?);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("HEADPOND") {
                command.env_remove(name);
            }
        }
        prepare(&mut command, &address.to_string());
        command.env(PART, part).current_dir(&directory).stdin(Stdio::null()).kill_on_drop(true);
        let log = directory.as_ref().join(part).with_extension("log");
        let held = cfg!(target_os = "linux").then_some(held);
        Ok(Self { part, address, command, log, child: None, _held: held })
    }

    /// Starts it, and waits until it listens.
    pub async fn start(&mut self) -> Result {
        let log = File::options().create(true).append(true).open(&self.log)?;
        self.command.stdout(log.try_clone()?).stderr(log);
        let mut child = self.command.spawn()?;
        let listens = async {
            while TcpStream::connect(self.address).await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::select! {
            ended = child.wait() => return Err(format!("{} ended: {}\n{}", self.part, ended?, self.said()?).into()),
            came = tokio::time::timeout(PATIENCE, listens) => came.map_err(|_| format!("{} does not listen", self.part))?,
        }
        self.child = Some(child);
        Ok(())
    }

    /// Kills it, as a crash does; how it ended.
    pub async fn kill(&mut self) -> Result<ExitStatus> {
        let mut child = self.child.take().ok_or("it does not run")?;
        child.start_kill()?;
        Ok(child.wait().await?)
    }

    /// The URL of a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// All that it has written so far: for the upstream service, a line for each request.
    pub fn said(&self) -> Result<String> {
        Ok(std::fs::read_to_string(&self.log)?)
    }
}

/// What the process does that plays the upstream: its arguments are an address and a directory.
pub(super) fn serve_upstream(upstream: Upstream) -> Result {
    let mut args = std::env::args_os().skip(1);
    let (Some(address), Some(directory)) = (args.next(), args.next()) else {
        return Err("an address, a directory".into());
    };
    let address: SocketAddr = address.to_str().ok_or("an address")?.parse()?;
    let router = upstream(Path::new(&directory))?.layer(from_fn(logged));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async { Ok(axum::serve(TcpListener::bind(address).await?, router).await?) })
}

/// An access log, as services have one.
async fn logged(request: Request, next: Next) -> axum::response::Response {
    let line = format!("{} {}", request.method(), request.uri());
    let answer = next.run(request).await;
    println!("{line} {}", answer.status().as_u16());
    answer
}

/// Whatever becomes of the example, none of its processes stays behind.
pub(super) fn end_with_the_example() {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{Signal, set_parent_process_death_signal};
        // What refuses this lets them end with the example's last step all the same.
        _ = set_parent_process_death_signal(Some(Signal::TERM));
    }
}
