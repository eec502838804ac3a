//! `${NAME}` in a jobs file: replaced when a run needs it, on the node that runs it. What is stored and shown is the text
//! with the name, so a secret is never in the database.
//!
//! Variables of Understudy itself are not handed out: whoever may define a job need not know the node's own secrets.

use std::fmt;
use std::sync::Arc;

/// What variables of Understudy itself begin with.
pub(super) const OWN: &str = "UNDERSTUDY_";

type Lookup = dyn Fn(&str) -> Option<String> + Send + Sync;

/// The environment in which jobs look up their variables; a cheap clone.
#[derive(Clone)]
pub(super) struct Environment(Arc<Lookup>);

/// A text that is not well formed; goes on after the field's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadTemplate {
    #[error(
        "has a `${{` that is no variable: write ${{NAME}}, or $${{ for the characters themselves"
    )]
    Form,
    #[error("asks for a variable of Understudy itself, which jobs do not get")]
    Own,
}

/// A text could not be filled in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum ExpandError {
    #[error("the variable {0} is not set in the environment of this node")]
    Unset(String),
    #[error("{0} {1}")]
    Bad(&'static str, BadTemplate),
}

impl Environment {
    /// The environment of the process.
    #[expect(
        clippy::disallowed_methods,
        reason = "the variables are those of jobs, not options of the node: which ones is known only when a job is"
    )]
    pub(super) fn of_process() -> Self {
        Self(Arc::new(|name| std::env::var(name).ok()))
    }

    #[cfg(test)]
    pub(super) fn of<const N: usize>(variables: [(&str, &str); N]) -> Self {
        let known = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let known = std::collections::BTreeMap::from(known);
        Self(Arc::new(move |name| known.get(name).cloned()))
    }

    pub(super) fn get(&self, name: &str) -> Option<String> {
        (self.0)(name)
    }

    /// Puts the values of variables into a text; `field` is what an error calls it.
    pub(super) fn expand(&self, field: &'static str, text: &str) -> Result<String, ExpandError> {
        let mut filled = String::with_capacity(text.len());
        for piece in pieces(text) {
            match piece.map_err(|bad| ExpandError::Bad(field, bad))? {
                Piece::Text(text) => filled.push_str(text),
                Piece::Variable(name) => {
                    let value = self.get(name);
                    filled.push_str(&value.ok_or_else(|| ExpandError::Unset(name.to_owned()))?);
                }
            }
        }
        Ok(filled)
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Environment")
    }
}

/// Gives the variables that a text asks for.
pub(super) fn variables(text: &str) -> Result<Vec<&str>, BadTemplate> {
    let mut names = Vec::new();
    for piece in pieces(text) {
        if let Piece::Variable(name) = piece? {
            names.push(name);
        }
    }
    Ok(names)
}

enum Piece<'t> {
    Text(&'t str),
    Variable(&'t str),
}

fn pieces(text: &str) -> impl Iterator<Item = Result<Piece<'_>, BadTemplate>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (piece, after) = match next(rest) {
            Ok(next) => next,
            Err(bad) => {
                rest = "";
                return Some(Err(bad));
            }
        };
        rest = after;
        Some(Ok(piece))
    })
}

fn next(rest: &str) -> Result<(Piece<'_>, &str), BadTemplate> {
    if let Some(after) = rest.strip_prefix("$${") {
        return Ok((Piece::Text("${"), after));
    }
    if let Some(after) = rest.strip_prefix("${") {
        let (name, after) = after.split_once('}').ok_or(BadTemplate::Form)?;
        if !is_name(name) {
            return Err(BadTemplate::Form);
        }
        if name.starts_with(OWN) {
            return Err(BadTemplate::Own);
        }
        return Ok((Piece::Variable(name), after));
    }
    // The first character is no beginning of anything, so the text goes on behind it.
    let first = rest.chars().next().map_or(0, char::len_utf8);
    let end = rest[first..].find('$').map_or(rest.len(), |at| at + first);
    let (text, after) = rest.split_at(end);
    Ok((Piece::Text(text), after))
}

fn is_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    !name.is_empty() && !name.as_bytes()[0].is_ascii_digit() && name.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_replaced_and_nothing_else_is() {
        let environment = Environment::of([("A", "1"), ("B_2", "${A}"), ("EMPTY", "")]);
        for (text, filled) in [
            ("", ""),
            ("no variable, 5 $ and $A", "no variable, 5 $ and $A"),
            ("${A}", "1"),
            ("x${A}y${B_2}z${EMPTY}", "x1y${A}z"),
            ("$${A} costs $$", "${A} costs $$"),
            ("$$${A}", "$${A}"),
            ("ä$ö${A}", "ä$ö1"),
        ] {
            assert_eq!(environment.expand("body", text).unwrap(), filled, "{text}");
        }
    }

    #[test]
    fn an_unset_variable_is_told_by_its_name() {
        let error = Environment::of([]).expand("body", "${SHOP_TOKEN}").unwrap_err();
        assert!(error.to_string().contains("SHOP_TOKEN"), "{error}");
    }

    #[test]
    fn a_text_that_is_not_well_formed_is_refused() {
        for text in ["${", "${}", "${A", "${A B}", "${1A}", "${a.b}", "x ${ä}"] {
            assert_eq!(variables(text), Err(BadTemplate::Form), "{text}");
        }
        assert_eq!(variables("${UNDERSTUDY_ADMIN_TOKEN}"), Err(BadTemplate::Own));
        assert_eq!(variables("${A} ${B}"), Ok(vec!["A", "B"]));
    }
}
