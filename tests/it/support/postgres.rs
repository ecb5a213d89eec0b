//! PostgreSQL servers of a test's own, which it may copy, stop and promote.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

/// The user that the servers' databases belong to.
const USER: &str = "headpond";

/// A running server. It ends when this is dropped.
pub struct PostgresServer {
    home: TempDir,
    port: u16,
    password: String,
}

impl PostgresServer {
    /// An empty one on a free port of 127.0.0.1.
    pub fn start() -> Self {
        let server = Self { home: home(), port: 0, password: format!("{:032x}", fastrand::u128(..)) };
        fs::write(server.path("password"), &server.password).unwrap();
        let (data, file) = (server.path("data"), server.path("password"));
        run("initdb", &["-D", &data, "--username", USER, "--pwfile", &file, "--auth=scram-sha-256", "--no-sync"]);
        server.started()
    }

    /// A standby that follows this one, and answers those who only read.
    pub fn standby(&self) -> Self {
        let standby = Self { home: home(), port: 0, password: self.password.clone() };
        let data = standby.path("data");
        run("pg_basebackup", &["-D", &data, "-d", &self.url(), "-R", "--checkpoint=fast", "--no-sync"]);
        standby.started()
    }

    /// Makes it a primary.
    pub fn promote(&self) {
        run("pg_ctl", &["promote", "-D", &self.path("data"), "-w"]);
    }

    /// Of its first database.
    pub fn url(&self) -> String {
        format!("postgres://{USER}:{}@127.0.0.1:{}/postgres", self.password, self.port)
    }

    /// Starts it, on another port if a stranger was quicker.
    fn started(mut self) -> Self {
        for _ in 0..5 {
            self.port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let options =
                format!("-p {} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off", self.port);
            let (data, log) = (self.path("data"), self.path("log"));
            if output("pg_ctl", &["start", "-D", &data, "-w", "-l", &log, "-o", &options]).status.success() {
                return self;
            }
        }
        panic!("PostgreSQL did not start: {}", fs::read_to_string(self.path("log")).unwrap_or_default());
    }

    fn path(&self, name: &str) -> String {
        self.home.path().join(name).display().to_string()
    }
}

/// Copies what headpond keeps from one database to another that has nothing of it, as an operator does.
pub fn dump_and_restore(from: &str, to: &str) {
    let home = home();
    let dump = home.path().join("dump").display().to_string();
    // What sqlx adds to a URL, its own programs do not know.
    let [from, to] = [from, to].map(|url| url.split('?').next().unwrap_or(url));
    run("pg_dump", &["--format=custom", "--schema=headpond", "--file", &dump, from]);
    run("pg_restore", &["--exit-on-error", "--single-transaction", "--dbname", to, &dump]);
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        // The data go anyway. pg_ctl waits until the server and its processes have ended.
        output("pg_ctl", &["stop", "-D", &self.path("data"), "-w", "-m", "immediate"]);
    }
}

/// A directory that PostgreSQL's programs may write to.
fn home() -> TempDir {
    let home = tempfile::tempdir().unwrap();
    if let Some((user, group)) = other_user() {
        chown(home.path(), Some(user), Some(group)).unwrap();
    }
    home
}

/// Runs one of PostgreSQL's programs, which must succeed.
fn run(program: &str, args: &[&str]) {
    let output = output(program, args);
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
}

fn output(program: &str, args: &[&str]) -> Output {
    let mut command = Command::new(find(program));
    // A server that pg_ctl starts keeps what it inherits: a pipe would never end.
    let stderr = tempfile::tempfile().unwrap();
    command.args(args).current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr.try_clone().unwrap());
    if let Some((user, group)) = other_user() {
        command.uid(user).gid(group);
    }
    let status = command.status().unwrap();
    Output { status, stdout: Vec::new(), stderr: said(stderr) }
}

fn said(mut file: fs::File) -> Vec<u8> {
    use std::io::{Read, Seek};
    let mut said = Vec::new();
    file.rewind().unwrap();
    file.read_to_end(&mut said).unwrap();
    said
}

/// Whom to run them as: PostgreSQL refuses root.
fn other_user() -> Option<(u32, u32)> {
    let id = |args: &[&str]| -> Option<u32> {
        let id = Command::new("id").args(args).stderr(Stdio::null()).output().unwrap();
        String::from_utf8_lossy(&id.stdout).trim().parse().ok()
    };
    let is_root = id(&["-u"]) == Some(0);
    let of = |name: &str| Some((id(&["-u", name])?, id(&["-g", name])?));
    is_root.then(|| of("postgres").or_else(|| of("nobody")).unwrap())
}

/// The newest that Debian has, or what is in PATH.
fn find(program: &str) -> PathBuf {
    let mut debian: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .map(|versions| versions.map(|version| version.unwrap().path().join("bin")).collect())
        .unwrap_or_default();
    debian.sort_by_key(|bin| version(bin));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = debian.into_iter().rev().chain(std::env::split_paths(&path)).map(|bin| bin.join(program));
    found.into_iter().find(|program| program.is_file()).unwrap_or_else(|| {
        panic!("This test needs PostgreSQL's {program}. Run `tests/run`, which installs it or says how.")
    })
}

/// Of `/usr/lib/postgresql/VERSION/bin`.
fn version(bin: &Path) -> Option<u32> {
    bin.parent()?.file_name()?.to_str()?.parse().ok()
}
