//! What the demo prints: where everything is, and four steps to copy into a terminal.
//!
//! Commands are indented by four spaces and set apart by empty lines; they are to work exactly as they stand. The README
//! opens with what they print (`tests/it/demo/transcript.rs`).

use super::Site;

/// The city that the steps look at.
pub const CITY: &str = "berlin";
/// The user that the steps look at.
pub const USER: &str = "u7";

/// What is printed at the start.
#[must_use]
pub fn greeting(site: &Site) -> String {
    let Site { api, upstream, database, .. } = site;
    format!(
        "\
A simulated upstream answers on http://{upstream}: the weather of 200 cities and the profiles of 2000 users, which
change all the time. Now and then it answers 429 or 503, or is slow.
Headpond polls it into {database}, and answers on http://{api}.
Ctrl-C stops both; the next run goes on from there. The first round takes about 15 seconds.
"
    )
}

/// What is printed when there is something to read.
#[must_use]
pub fn steps(site: &Site) -> String {
    let Site { api, upstream, .. } = site;
    let (database, program) = (shell_word(&site.database), shell_word(&site.program));
    format!(
        "
Ready. Four steps to copy and paste into another terminal:

1. Read a city. The body is the upstream's; the headers say how old it is, and how good.

    curl -i http://{api}/v1/weather/{CITY}

2. Join users with the weather where they live, in SQL. (No sqlite3? The second command prints one user.)

    sqlite3 {database} \"
        SELECT json_extract(u.body, '$.name'), w.key, json_extract(w.body, '$.now.temperature') || ' °C'
        FROM headpond_snapshots AS u
        JOIN headpond_snapshots AS w ON w.source = 'weather' AND w.key = json_extract(u.body, '$.city')
        WHERE u.source = 'users' AND w.key = '{CITY}' ORDER BY 1 LIMIT 3\"

    {program} get --database {database} users {USER}

3. Switch the upstream off for a minute: it closes every connection without an answer. After 20 seconds without news the
   copy counts as stale. It is answered all the same, and /meta has the reason.

    curl -X POST 'http://{upstream}/off?for=1m'

    until curl -si http://{api}/v1/weather/{CITY} | grep '^headpond-state: stale'; do sleep 1; done

    curl -i http://{api}/v1/weather/{CITY}

    curl -s http://{api}/v1/weather/{CITY}/meta | grep -o '\"failing\":{{[^}}]*}}'

4. Switch it on again before the minute is over, or wait, and watch Headpond catch up by itself.

    curl -X POST http://{upstream}/on

    until curl -si http://{api}/v1/weather/{CITY} | grep '^headpond-state: fresh'; do sleep 1; done
"
    )
}

/// A text as one word of a POSIX shell.
fn shell_word(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+,:@%=".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) && !text.starts_with('-') {
        return text.to_owned();
    }
    let word = format!("'{}'", text.replace('\'', r"'\''"));
    // What begins with a dash would be taken for an option.
    if text.starts_with('-') { format!("./{word}") } else { word }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_quoted_where_a_shell_needs_it() {
        for (text, word) in [
            ("headpond-demo.db", "headpond-demo.db"),
            ("target/release/headpond", "target/release/headpond"),
            ("my demo.db", "'my demo.db'"),
            ("it's.db", r"'it'\''s.db'"),
            ("$HOME.db", "'$HOME.db'"),
            ("-x.db", "./'-x.db'"),
            ("", "''"),
        ] {
            assert_eq!(shell_word(text), word);
        }
    }
}
