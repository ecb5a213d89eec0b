//! Where the keys of a source come from. A key is polled while at least one origin has it.

/// The name of a source's own list in the configuration.
pub const CONFIG: &str = "config";

/// The name of a collection's list of members.
pub const WALK: &str = "walk";

/// The name of what readers have asked for, and its place: among what is always there, after all that someone listed.
pub const DEMAND: (&str, i64) = ("demand", 9);

/// Places below this are those of what is always there: the configuration's list, and keys that were added by hand.
pub const FIRST_OF_OTHERS: i64 = 10;

/// Who added a key by hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hand {
    /// Someone who asked the API.
    Api,
    /// Someone at the command line.
    Cli,
}

impl Hand {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Api, Self::Cli];

    /// The origin's name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Cli => "cli",
        }
    }

    /// Where it stands among the origins: after the configuration's list, whose parameters come first.
    #[must_use]
    pub const fn place(self) -> i64 {
        match self {
            Self::Api => 1,
            Self::Cli => 2,
        }
    }
}
