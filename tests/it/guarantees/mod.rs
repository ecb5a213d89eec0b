//! What the whole program promises, each as a user would see it broken.

mod bad_answers;
mod credentials;
mod odd_keys;
mod secrets;
mod tokens;
