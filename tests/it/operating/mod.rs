//! What an operator does with it after the first day.

mod backup;
mod deploy;
mod systemd;
