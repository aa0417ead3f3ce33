//! Reads ahead: one thread decodes while another works on what is decoded.

use std::io::{Read, Seek};
use std::ops::ControlFlow::{self, Break, Continue};
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::{panic, thread};

use lazymmu_abi::Record;

use crate::ReadError;
use crate::records::Records;

/// Batches that wait for being worked on. A batch is 1 MiB at most.
const WAITING: usize = 4;

impl<R: Read + Seek + Send> Records<R> {
    /// Hands every batch to `take`, in the order of the file, while another thread decodes the next ones. `take` gets
    /// what [`Records::next_batch`] would give, and can break off.
    pub fn read_ahead<B>(
        &mut self,
        mut take: impl FnMut(&[Record]) -> ControlFlow<B>,
    ) -> Result<ControlFlow<B>, ReadError> {
        let (ready, batches) = sync_channel(WAITING);
        let (give_back, used) = channel();
        let done = thread::scope(|scope| {
            let records = &mut *self;
            let decode = move || records.hand_over(&ready, &used);
            let thread = thread::Builder::new().name("read-ahead".to_owned());
            let decoder = thread.spawn_scoped(scope, decode).ok()?;
            // Dropped on the way out, so that a decoder that waits for room notices.
            let batches = batches;
            for batch in &batches {
                if let Break(why) = take(&batch) {
                    return Some(Ok(Break(why)));
                }
                // Where nobody wants it any more it is just dropped.
                let _ = give_back.send(batch);
            }
            Some(decoder.join().unwrap_or_else(|cause| panic::resume_unwind(cause)).map(Continue))
        });
        match done {
            Some(done) => done,
            // There was no thread to be had.
            None => self.read_here(take),
        }
    }

    /// Decodes batch after batch into memory that came back, until the end or until nobody listens.
    fn hand_over(
        &mut self,
        ready: &SyncSender<Vec<Record>>,
        used: &Receiver<Vec<Record>>,
    ) -> Result<(), ReadError> {
        while let Some(batch) = self.next_owned(used.try_recv().unwrap_or_default())? {
            if ready.send(batch).is_err() {
                break;
            }
        }
        Ok(())
    }

    fn read_here<B>(
        &mut self,
        mut take: impl FnMut(&[Record]) -> ControlFlow<B>,
    ) -> Result<ControlFlow<B>, ReadError> {
        while let Some(batch) = self.next_batch()? {
            if let Break(why) = take(batch) {
                return Ok(Break(why));
            }
        }
        Ok(Continue(()))
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Cursor, SeekFrom};
    use std::sync::atomic::AtomicU64;
    use std::sync::atomic::Ordering::Relaxed;

    use super::*;
    use crate::{Header, Reader, Settings, Writer};

    const RECORDS: u64 = 10_000;

    fn trace() -> Vec<u8> {
        let settings = Settings { block_records: 64, ..Settings::default() };
        let mut writer = Writer::with_settings(Vec::new(), &Header::default(), settings).unwrap();
        for time in 1..=RECORDS {
            writer.records(&[Record { time, ..Record::default() }]).unwrap();
        }
        writer.finish().unwrap();
        writer.into_sink()
    }

    #[test]
    fn it_gives_what_reading_here_gives() {
        let whole = trace();
        let mut flipped = whole.clone();
        flipped[whole.len() / 2] ^= 1;
        for bytes in [&whole[..], &flipped, &whole[..whole.len() / 3]] {
            let (mut ahead, mut here) = (Vec::new(), Vec::new());
            let mut reader = Reader::from_bytes(bytes).unwrap();
            let mut take = |batch: &[Record]| {
                ahead.push(batch.to_vec());
                ControlFlow::<()>::Continue(())
            };
            assert_eq!(reader.records.read_ahead(&mut take).unwrap(), Continue(()));
            let damage = reader.damage();
            reader.records.rewind();
            let take = |batch: &[Record]| {
                here.push(batch.to_vec());
                ControlFlow::<()>::Continue(())
            };
            assert_eq!(reader.records.read_here(take).unwrap(), Continue(()));
            assert!(ahead.len() > 20, "{} batches", ahead.len());
            assert_eq!(ahead, here);
            assert_eq!(reader.damage(), damage);
        }
    }

    #[test]
    fn who_breaks_off_gets_no_more() {
        let bytes = trace();
        let mut reader = Reader::from_bytes(&bytes).unwrap();
        let mut taken = 0;
        let stopped = reader.records.read_ahead(|_| {
            taken += 1;
            if taken == 3 { Break("enough") } else { Continue(()) }
        });
        assert_eq!((stopped.unwrap(), taken), (Break("enough"), 3));
    }

    /// Bytes of which some cannot be read any more once reading has begun.
    struct Failing<'a> {
        inner: Cursor<Vec<u8>>,
        from: &'a AtomicU64,
    }

    impl Read for Failing<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.inner.position() >= self.from.load(Relaxed) {
                return Err(io::ErrorKind::NotConnected.into());
            }
            self.inner.read(buffer)
        }
    }

    impl Seek for Failing<'_> {
        fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
            self.inner.seek(to)
        }
    }

    #[test]
    fn an_error_of_the_file_comes_after_what_was_read() {
        let bytes = trace();
        let from = AtomicU64::new(u64::MAX);
        let file = Failing { inner: Cursor::new(bytes), from: &from };
        let mut reader = Reader::new("a file", file).unwrap();
        from.store(reader.about.bytes / 2, Relaxed);
        let mut count = 0;
        let result = reader.records.read_ahead(|batch| {
            count += batch.len() as u64;
            ControlFlow::<()>::Continue(())
        });
        assert!(result.is_err());
        assert!(count > 64 && count < RECORDS, "{count}");
    }
}
