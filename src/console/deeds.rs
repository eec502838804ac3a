//! Everything that can be done with the console: one table, from which buttons, questions, requests and the comparison with
//! API and command line are made.

use understudy_runtime::admin::Role;

use super::api::encoded;

mod cluster;
mod fields;
mod jobs;
mod people;

pub(super) use fields::{Field, Form, Kind, Place};

/// All deeds.
pub(super) fn deeds() -> impl Iterator<Item = &'static Deed> {
    [cluster::DEEDS, jobs::DEEDS, people::DEEDS].into_iter().flatten()
}

/// How much somebody is asked before it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Weight {
    /// Done at once: it can be taken back at once.
    Light,
    /// A page asks first, with what it will do, and for what it needs to know.
    Asked,
    /// The same, and the button says that it is not to be taken back.
    Grave,
}

/// One thing that can be done: an operation of the API, and how people are asked about it.
#[derive(Debug)]
pub(super) struct Deed {
    /// The operation of the API.
    pub(super) id: &'static str,
    /// The page that has it.
    pub(super) page: &'static str,
    /// Who may.
    pub(super) role: Role,
    /// Method and path; `{name}` is filled in.
    pub(super) call: (&'static str, &'static str),
    /// The text of its button.
    pub(super) label: &'static str,
    /// The question; `{name}` is filled in.
    pub(super) title: &'static str,
    /// What will happen.
    pub(super) effect: &'static str,
    /// What has happened; `{name}` is filled in.
    pub(super) done: &'static str,
    /// Where to go afterwards, unless somebody came from elsewhere.
    pub(super) back: &'static str,
    /// What there is to know for it.
    pub(super) fields: &'static [Field],
    /// How much is asked.
    pub(super) weight: Weight,
}

impl Deed {
    /// Finds what can be done by the operation's name.
    pub(super) fn find(id: &str) -> Option<&'static Self> {
        deeds().find(|deed| deed.id == id)
    }

    /// Fills names into a text.
    pub(super) fn fill(&self, text: &str, form: &Form) -> String {
        self.filled(text, |value| value.to_owned(), form)
    }

    /// Fills names into a path, where they cannot mean anything but themselves.
    pub(super) fn fill_path(&self, text: &str, form: &Form) -> String {
        self.filled(text, encoded, form)
    }

    fn filled(&self, text: &str, write: impl Fn(&str) -> String, form: &Form) -> String {
        let mut told = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let Some((name, after)) = after.split_once('}') else { break };
            told.push_str(before);
            told.push_str(&write(form.value(name)));
            rest = after;
        }
        told + rest
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_deed_is_there_once_and_all_names_in_its_texts_are_fields() {
        let ids: BTreeSet<_> = deeds().map(|deed| deed.id).collect();
        assert_eq!(ids.len(), deeds().count());
        for deed in deeds() {
            for text in [deed.call.1, deed.title, deed.done, deed.back] {
                for part in text.split('{').skip(1) {
                    let name = part.split('}').next().unwrap();
                    let known = deed.fields.iter().any(|field| field.name == name);
                    assert!(known, "{}: {text}: {name}", deed.id);
                }
            }
            assert!(deed.back.starts_with("/console"), "{}", deed.id);
        }
    }

    #[test]
    fn what_a_path_lacks_is_asked_for() {
        for deed in deeds() {
            for field in deed.fields {
                let in_path = deed.call.1.contains(&format!("{{{}}}", field.name));
                assert_eq!(in_path, field.place == Place::Path, "{}: {}", deed.id, field.name);
            }
        }
    }

    #[test]
    fn what_cannot_be_taken_back_is_asked_about() {
        for deed in deeds().filter(|deed| deed.call.0 == "DELETE") {
            let harmless = matches!(deed.id, "nodes.maintenance_off" | "settings.reset");
            assert!(harmless || deed.weight == Weight::Grave, "{}", deed.id);
        }
    }

    #[test]
    fn names_are_filled_in_where_they_belong() {
        let deed = Deed::find("nodes.drain").unwrap();
        let form = Form::new([("name", "a/b")]);
        assert_eq!(deed.fill("Drain {name}", &form), "Drain a/b");
        assert_eq!(deed.fill_path(deed.call.1, &form), "/v1/nodes/a%2Fb/drain");
        assert_eq!(deed.fill("no {end", &form), "no {end");
    }
}
