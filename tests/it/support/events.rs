//! A reader of server-sent events (WHATWG HTML §9.2.6), as far as it takes to read ours.

/// One block of a stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Event {
    /// Its name; empty for a message.
    pub name: String,
    /// Its data; empty for what is no event, but moves the id on.
    pub data: String,
    /// The id that holds since.
    pub id: String,
}

impl Event {
    /// Its data as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.data).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Takes a stream apart, in whatever pieces it comes.
#[derive(Debug, Default)]
pub struct EventReader {
    rest: String,
    /// The id of the last block.
    pub last_id: String,
}

impl EventReader {
    /// The blocks that are complete now.
    pub fn push(&mut self, text: &str) -> Vec<Event> {
        self.rest.push_str(text);
        let mut events = Vec::new();
        while let Some((block, rest)) = self.rest.split_once("\n\n") {
            let (block, rest) = (block.to_owned(), rest.to_owned());
            events.push(self.event(&block));
            self.rest = rest;
        }
        events
    }

    fn event(&mut self, block: &str) -> Event {
        let (mut name, mut data) = (String::new(), Vec::new());
        for line in block.lines() {
            match line.split_once(": ") {
                Some(("id", id)) => id.clone_into(&mut self.last_id),
                Some(("event", event)) => event.clone_into(&mut name),
                Some(("data", line)) => data.push(line),
                Some(("retry" | "", _)) => {}
                _ => panic!("no line of an event: {line:?}"),
            }
        }
        Event { name, data: data.join("\n"), id: self.last_id.clone() }
    }
}
