//! The document as a page of HTML that needs nothing from elsewhere, and no scripts.

use std::fmt::Write;

use serde_json::Value;

const STYLE: &str = "
    body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem; font: 16px/1.5 system-ui, sans-serif; color: #222; background: #fff }
    code, pre { font: 14px/1.4 ui-monospace, monospace; background: #f3f4f6; border-radius: 3px }
    code { padding: 0 .2em } pre { padding: .8rem; overflow: auto }
    h2 { margin-top: 2.5rem; border-bottom: 1px solid #ddd } h3 { margin: 2rem 0 .3rem }
    h3 code { background: none } .method { text-transform: uppercase; color: #0a5 }
    table { border-collapse: collapse; width: 100%; margin: .6rem 0 } td { border-top: 1px solid #eee; padding: .25rem .6rem .25rem 0; vertical-align: top }
    td:first-child { white-space: nowrap; width: 1% }
    @media (prefers-color-scheme: dark) { body { color: #ddd; background: #181a1b } code, pre { background: #26292b } h2, td { border-color: #333 } }
";

/// The page.
pub(super) fn page(document: &Value) -> String {
    let mut page = Page { document, html: String::new() };
    page.write();
    page.html
}

struct Page<'a> {
    document: &'a Value,
    html: String,
}

impl<'a> Page<'a> {
    fn write(&mut self) {
        let info = self.document.get("info").unwrap_or(&Value::Null);
        self.html = format!(
            "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width\">\n\
             <title>Headpond: the HTTP API</title>\n<style>{STYLE}</style>\n<h1>The HTTP API of Headpond {}</h1>\n<p>{}</p>\n\
             <p>For programs: <a href=\"/openapi.json\">/openapi.json</a>, which also names the sources.</p>\n",
            escaped(text(info, "version")),
            prose(text(info, "description")),
        );
        for tag in members(self.document, "tags") {
            self.add("h2", text(tag, "name"));
            self.add("p", text(tag, "description"));
            for (path, item) in object(self.document, "paths") {
                for (method, operation) in item.as_object().into_iter().flatten() {
                    if members(operation, "tags").any(|name| name.as_str() == Some(text(tag, "name"))) {
                        self.operation(path, method, item, operation);
                    }
                }
            }
        }
        self.add("h2", "Schemas");
        let schemas = self.document.get("components").unwrap_or(&Value::Null);
        for (name, schema) in object(schemas, "schemas") {
            let written = serde_json::to_string_pretty(schema).unwrap_or_default();
            let (name, written) = (escaped(name), escaped(&written));
            _ = writeln!(
                self.html,
                "<details id=\"{name}\"><summary><code>{name}</code></summary><pre>{written}</pre></details>"
            );
        }
    }

    fn operation(&mut self, path: &str, method: &str, item: &Value, operation: &Value) {
        let (id, method, path) = (escaped(text(operation, "operationId")), escaped(method), escaped(path));
        _ = writeln!(self.html, "<h3 id=\"{id}\"><span class=\"method\">{method}</span> <code>{path}</code></h3>");
        self.add("p", &format!("{}. {}", text(operation, "summary"), text(operation, "description")));
        let parameters: Vec<_> = members(item, "parameters").chain(members(operation, "parameters")).collect();
        let rows = parameters.into_iter().map(|parameter| {
            let parameter = self.resolved(parameter);
            (format!("{} ({})", text(parameter, "name"), text(parameter, "in")), text(parameter, "description"))
        });
        let responses = object(operation, "responses")
            .map(|(status, response)| (status.clone(), text(self.resolved(response), "description")));
        let rows: Vec<_> = rows.chain(responses).collect();
        self.table(&rows);
    }

    fn table(&mut self, rows: &[(String, &str)]) {
        self.html.push_str("<table>\n");
        for (name, about) in rows {
            _ = writeln!(self.html, "<tr><td><code>{}</code><td>{}", escaped(name), prose(about));
        }
        self.html.push_str("</table>\n");
    }

    fn add(&mut self, element: &str, words: &str) {
        _ = writeln!(self.html, "<{element}>{}</{element}>", prose(words));
    }

    /// What a reference stands for.
    fn resolved(&self, value: &'a Value) -> &'a Value {
        let path = value.get("$ref").and_then(Value::as_str).and_then(|reference| reference.strip_prefix('#'));
        path.and_then(|path| self.document.pointer(path)).unwrap_or(value)
    }
}

fn text<'v>(value: &'v Value, member: &str) -> &'v str {
    value.get(member).and_then(Value::as_str).unwrap_or_default()
}

fn members<'v>(value: &'v Value, member: &str) -> impl Iterator<Item = &'v Value> + use<'v> {
    value.get(member).and_then(Value::as_array).into_iter().flatten()
}

fn object<'v>(value: &'v Value, member: &str) -> impl Iterator<Item = (&'v String, &'v Value)> + use<'v> {
    value.get(member).and_then(Value::as_object).into_iter().flatten()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Text in which every second part between backticks is code.
fn prose(text: &str) -> String {
    let parts = text.split('`').enumerate();
    parts
        .map(|(index, part)| match index % 2 {
            0 => escaped(part),
            _ => format!("<code>{}</code>", escaped(part)),
        })
        .collect()
}
