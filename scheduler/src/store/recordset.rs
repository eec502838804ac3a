//! Many rows as one parameter: a JSON array that the database takes apart.

use understudy_runtime::database::Backend;

/// The type of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Big,
    Bool,
}

/// Gives what stands after `FROM`: rows called `x` with these columns, out of the JSON array in parameter `$number`.
pub(super) fn recordset(backend: Backend, number: usize, columns: &[(&str, Kind)]) -> String {
    match backend {
        Backend::Postgres => {
            let typed: Vec<String> = columns
                .iter()
                .map(|(name, kind)| {
                    let kind = match kind {
                        Kind::Text => "text",
                        Kind::Big => "bigint",
                        Kind::Bool => "boolean",
                    };
                    format!("{name} {kind}")
                })
                .collect();
            format!("jsonb_to_recordset(CAST(${number} AS jsonb)) AS x({})", typed.join(", "))
        }
        Backend::Sqlite => {
            let typed: Vec<String> =
                columns.iter().map(|(name, _)| format!("value ->> '{name}' AS {name}")).collect();
            format!("(SELECT {} FROM json_each(${number})) AS x", typed.join(", "))
        }
    }
}
