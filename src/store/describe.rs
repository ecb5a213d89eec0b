//! Fields that describe a stored content and come anew with a confirmation of it.

use std::collections::HashMap;

use super::StoreError;
use super::columns::{Cells, Record};
use crate::domain::resource::ResourceId;
use crate::domain::snapshot::{decode_headers, encode_headers};
use http::HeaderMap;

/// What is to be written of the stored blocks of fields, rows of `content` with `resource_id` and `headers`: each supplied
/// field replaces those of its name. Blocks that stay as they are are left out.
pub(super) fn replaced<R: Cells>(
    stored: &[R],
    supplied: &[(ResourceId, &HeaderMap)],
) -> Result<Vec<(ResourceId, Vec<u8>)>, StoreError> {
    let supplied: HashMap<_, _> = supplied.iter().copied().collect();
    let mut written = Vec::new();
    for row in stored {
        let record = Record::identified_by(row, "content", "resource_id")?;
        let (id, block) = (ResourceId(record.id()), record.bytes("headers")?);
        let mut headers =
            decode_headers(&block).ok_or_else(|| record.corrupt("headers", "these are no header fields"))?;
        for name in supplied.get(&id).into_iter().flat_map(|fields| fields.keys()) {
            headers.remove(name);
        }
        for (name, value) in supplied.get(&id).into_iter().flat_map(|fields| fields.iter()) {
            headers.append(name.clone(), value.clone());
        }
        // The order of names means nothing.
        if decode_headers(&block).as_ref() != Some(&headers) {
            written.push((id, encode_headers(&headers)));
        }
    }
    Ok(written)
}
