//! A CSV table whose rows are found by the values of key columns.
//!
//! Guarantees: its memory is proportional to the file. Of rows with the same key, the last one counts. A file in which a row
//! has too few or too many cells is rejected. An error shows nothing of the file's content. Reads RFC 4180 with a header. Cells are
//! strings; there are no types.

use csv::{ByteRecord, ReaderBuilder};
use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use tailwater_shards::counted::counted;
use tailwater_shards::scan::escape_json_into;
use xxhash_rust::xxh3::xxh3_128;

use super::super::dedupe::OfKey;
use crate::config::nearest::nearest;

/// The largest number of columns.
const COLUMNS_MAX: usize = 1024;

/// A table.
#[derive(Debug)]
pub struct Table {
    columns: Vec<String>,
    rows: HashMap<u128, u32, BuildHasherDefault<OfKey>>,
    /// The cells as JSON strings, row by row; an empty cell takes nothing.
    cells: Vec<u8>,
    /// Where each cell ends.
    ends: Vec<u32>,
}

/// Appends a part of a key, after its length.
pub fn push_part(key: &mut Vec<u8>, push: impl FnOnce(&mut Vec<u8>)) {
    let start = key.len();
    key.extend_from_slice(&[0; 8]);
    push(key);
    let length = (key.len() - start - 8) as u64;
    key[start..start + 8].copy_from_slice(&length.to_le_bytes());
}

impl Table {
    /// Reads a table whose rows are found by `keys`.
    pub fn read(bytes: &[u8], keys: &[String]) -> Result<Table, String> {
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let mut reader = ReaderBuilder::new().from_reader(bytes);
        let header = reader.headers().map_err(|error| format!("no header: {error}"))?;
        let columns: Vec<String> = header.iter().map(str::to_owned).collect();
        if columns.len() > COLUMNS_MAX {
            return Err(format!("it has {} columns, but at most {COLUMNS_MAX} are allowed", columns.len()));
        }
        let mut table = Table { columns, rows: HashMap::default(), cells: Vec::new(), ends: Vec::new() };
        let keys = keys.iter().map(|key| table.column(key)).collect::<Result<Vec<usize>, String>>()?;
        let (mut row, mut key) = (ByteRecord::new(), Vec::new());
        let mut number = 0u32;
        while reader.read_byte_record(&mut row).map_err(|error| error.to_string())? {
            key.clear();
            keys.iter().for_each(|column| push_part(&mut key, |out| out.extend_from_slice(&row[*column])));
            table.rows.insert(xxh3_128(&key), number);
            for cell in &row {
                table.push_cell(cell)?;
            }
            number += 1;
        }
        Ok(table)
    }

    fn push_cell(&mut self, cell: &[u8]) -> Result<(), String> {
        if !cell.is_empty() {
            self.cells.push(b'"');
            escape_json_into(cell, &mut self.cells);
            self.cells.push(b'"');
        }
        let end = u32::try_from(self.cells.len()).map_err(|_| "it holds more than 4 GiB".to_owned())?;
        self.ends.push(end);
        Ok(())
    }

    /// The number of a column.
    pub fn column(&self, name: &str) -> Result<usize, String> {
        self.columns.iter().position(|column| column == name).ok_or_else(|| {
            // What a file holds that is no table is nobody's to read.
            let near = nearest(name, self.columns.iter().map(String::as_str));
            let help = near.map_or_else(String::new, |near| format!(", among them `{near}`"));
            format!("its first line has no column `{name}`, but {}{help}", counted(self.columns.len(), "other column"))
        })
    }

    /// Its columns.
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// The row for a key made with [`push_part`].
    pub fn find(&self, key: &[u8]) -> Option<u32> {
        self.rows.get(&xxh3_128(key)).copied()
    }

    /// A cell as a JSON string; none if it is empty.
    pub fn cell(&self, row: u32, column: usize) -> &[u8] {
        let at = row as usize * self.columns.len() + column;
        let start = if at == 0 { 0 } else { self.ends[at - 1] };
        &self.cells[start as usize..self.ends[at] as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, keys: &[&str]) -> Result<Table, String> {
        Table::read(text.as_bytes(), &keys.iter().map(|key| (*key).to_owned()).collect::<Vec<_>>())
    }

    fn cells(table: &Table, key: &[&str]) -> Option<Vec<String>> {
        let mut text = Vec::new();
        key.iter().for_each(|part| push_part(&mut text, |out| out.extend_from_slice(part.as_bytes())));
        let row = table.find(&text)?;
        let cell = |column| String::from_utf8_lossy(table.cell(row, column)).into_owned();
        Some((0..table.columns().len()).map(cell).collect())
    }

    #[test]
    fn rows_are_found_by_all_their_keys() {
        let text = "\u{feff}host,port,team,note\r\na,80,web,\"x, \"\"y\"\"\"\nb,80,,é\na,443,tls,\n";
        let table = read(text, &["host", "port"]).expect("a table");
        let found = |host, port| cells(&table, &[host, port]).map(|cells| cells[2..].join("|"));
        assert_eq!(found("a", "80").as_deref(), Some(r#""web"|"x, \"y\"""#));
        assert_eq!(found("b", "80").as_deref(), Some("|\"é\""), "an empty cell is nothing");
        assert_eq!(found("a", "443").as_deref(), Some("\"tls\"|"));
        assert_eq!(found("a", "8"), None);
        assert_eq!(found("a8", "0"), None);
    }

    #[test]
    fn last_of_equal_rows_counts() {
        assert_eq!(cells(&read("k,v\na,1\na,2\n", &["k"]).expect("a table"), &["a"]).expect("a row")[1], "\"2\"");
    }

    #[test]
    fn what_is_no_table_is_refused_and_says_where() {
        assert!(read("a,b\n1\n", &["a"]).expect_err("short").contains("line: 2"));
        assert!(read("a,b\n1,2,3\n", &["a"]).expect_err("long").contains("line: 2"));
        let error = read("a,b\n1,2\n", &["name"]).expect_err("no column");
        assert_eq!(error, "its first line has no column `name`, but 2 other columns");
        let error = read("root:$6$salt$hash:1:0,teams\n", &["team"]).expect_err("no column");
        assert_eq!(error, "its first line has no column `team`, but 2 other columns, among them `teams`");
        assert!(read("", &["a"]).is_err());
    }
}
