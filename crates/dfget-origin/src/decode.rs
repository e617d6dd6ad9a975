//! Contents that come coded although they were asked for as they are.

use std::io::Write;

use bytes::Bytes;
use flate2::write::MultiGzDecoder;

/// How much coded input is taken at a time: bounds what one step can grow to.
const STEP: usize = 4 << 10;

/// Undoes `Content-Encoding: gzip` as bytes arrive.
#[derive(Debug)]
pub(crate) struct Gunzip {
    decoder: MultiGzDecoder<Vec<u8>>,
    input: Bytes,
}

impl Gunzip {
    pub(crate) fn new() -> Self {
        Self { decoder: MultiGzDecoder::new(Vec::new()), input: Bytes::new() }
    }

    /// Takes the next coded bytes; all earlier ones must have been [`Self::pull`]ed.
    pub(crate) fn push(&mut self, input: Bytes) {
        self.input = input;
    }

    /// The next decoded bytes, `None` when more input is needed.
    ///
    /// # Errors
    /// If the input is not gzip.
    pub(crate) fn pull(&mut self) -> std::io::Result<Option<Bytes>> {
        while !self.input.is_empty() {
            let step = self.input.split_to(STEP.min(self.input.len()));
            self.decoder.write_all(&step)?;
            let out = std::mem::take(self.decoder.get_mut());
            if !out.is_empty() {
                return Ok(Some(out.into()));
            }
        }
        Ok(None)
    }

    /// What is left at the end of the input.
    ///
    /// # Errors
    /// If the input ended in mid-stream.
    pub(crate) fn finish(&mut self) -> std::io::Result<Bytes> {
        self.decoder.try_finish()?;
        Ok(std::mem::take(self.decoder.get_mut()).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(data).expect("memory takes all");
        encoder.finish().expect("memory takes all")
    }

    fn decode(coded: &[u8], cut: usize) -> std::io::Result<Vec<u8>> {
        let mut gunzip = Gunzip::new();
        let mut out = Vec::new();
        for part in coded.chunks(cut) {
            gunzip.push(Bytes::copy_from_slice(part));
            while let Some(bytes) = gunzip.pull()? {
                out.extend_from_slice(&bytes);
            }
        }
        out.extend_from_slice(&gunzip.finish()?);
        Ok(out)
    }

    #[test]
    fn members_come_out_whole_however_they_are_cut() {
        let data: Vec<u8> = (0..200_000_u32).flat_map(|i| (i % 977).to_le_bytes()).collect();
        let mut coded = gzip(&data[..1000]);
        coded.extend(gzip(&data[1000..]));
        for cut in [1, 7, STEP, coded.len()] {
            assert!(decode(&coded, cut).expect("gzip") == data, "cut {cut}");
        }
    }

    #[test]
    fn what_is_not_gzip_or_not_whole_is_an_error() {
        assert!(decode(b"plain text, not gzip", 8).is_err());
        let coded = gzip(&[1; 1000]);
        assert!(decode(&coded[..coded.len() - 9], 100).is_err());
    }
}
