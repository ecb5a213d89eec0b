//! Users whose profiles change at random.

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::cities::CITIES;
use super::dice::Dice;
use super::edition::Edition;

/// How many there are; their keys are `u1` to `u2000`.
pub const USERS: usize = FIRST_NAMES.len() * LAST_NAMES.len();

/// A profile changes once in so many seconds.
const STRETCH: u32 = 300;

/// What the upstream answers for a user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Profile {
    id: String,
    name: String,
    email: String,
    /// A key of the weather.
    city: &'static str,
    points: u64,
    changed_at: DateTime<Utc>,
}

/// Which of the users has this key, from 0.
#[must_use]
pub fn find(key: &str) -> Option<usize> {
    let number: usize = key.strip_prefix('u')?.parse().ok()?;
    let is_canonical = self::key(number.checked_sub(1)?) == key;
    (number <= USERS && is_canonical).then_some(number - 1)
}

/// The key of a user.
#[must_use]
pub fn key(index: usize) -> String {
    format!("u{}", index + 1)
}

/// Which profile is the latest at `now`.
#[must_use]
pub fn edition(user: Dice, now: DateTime<Utc>) -> Edition {
    Edition::random(user, STRETCH, now)
}

impl Profile {
    /// The profile of this edition.
    #[must_use]
    pub fn of(index: usize, user: Dice, edition: Edition) -> Self {
        let pick = |names: &[&'static str], at: usize| names.get(at % names.len().max(1)).copied().unwrap_or_default();
        let first = pick(FIRST_NAMES, index);
        let last = pick(LAST_NAMES, index / FIRST_NAMES.len());
        let home = usize::try_from(user.below(CITIES.len() as u64)).unwrap_or_default();
        Self {
            id: key(index),
            name: format!("{first} {last}"),
            email: format!("{first}.{last}@example.com").to_lowercase(),
            city: CITIES.get(home).map_or("", |city| city.key),
            points: edition.dice.below(1000),
            changed_at: edition.began,
        }
    }
}

const FIRST_NAMES: &[&str] = &[
    "Ada", "Alan", "Amara", "Barbara", "Chidi", "Dana", "Edsger", "Elif", "Emmy", "Esra", "Fatima", "Frances", "Grace",
    "Hana", "Hedy", "Ines", "Ivan", "Jun", "Kofi", "Lea", "Linus", "Mae", "Margaret", "Mario", "Mina", "Niklaus",
    "Nora", "Olga", "Paulo", "Priya", "Radia", "Rosa", "Samir", "Sofia", "Tomas", "Vera", "Wei", "Xin", "Yuki", "Zoe",
];

const LAST_NAMES: &[&str] = &[
    "Abe", "Adeyemi", "Almeida", "Berg", "Berisha", "Chen", "Costa", "Diallo", "Dubois", "Evans", "Fischer", "Garcia",
    "Goldberg", "Haddad", "Hansen", "Hopper", "Horvat", "Ito", "Jansen", "Kaya", "Khan", "Kim", "Kowalski", "Krasniqi",
    "Larsen", "Lopez", "Martin", "Mensah", "Meyer", "Moreau", "Nair", "Nguyen", "Novak", "Okafor", "Papas", "Park",
    "Patel", "Petrov", "Quispe", "Reyes", "Rossi", "Sato", "Silva", "Singh", "Tanaka", "Varga", "Wagner", "Wood",
    "Yilmaz", "Zhang",
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn there_are_2000_of_different_names_in_all_of_the_cities() {
        assert_eq!(USERS, 2000);
        let profile = |index| {
            let dice = Dice::new(7).of(index as u64);
            Profile::of(index, dice, edition(dice, DateTime::UNIX_EPOCH))
        };
        let profiles: Vec<Profile> = (0..USERS).map(profile).collect();
        let distinct = |of: fn(&Profile) -> &str| profiles.iter().map(of).collect::<BTreeSet<_>>().len();
        assert_eq!(distinct(|profile| &profile.name), USERS);
        assert_eq!(distinct(|profile| profile.city), CITIES.len());
    }

    #[test]
    fn each_has_one_key() {
        assert_eq!((find("u1"), find("u2000"), find(&key(41))), (Some(0), Some(1999), Some(41)));
        for key in ["u0", "u2001", "u01", "u+1", "1", "u", "U1", "u1 ", ""] {
            assert_eq!(find(key), None, "{key}");
        }
    }
}
