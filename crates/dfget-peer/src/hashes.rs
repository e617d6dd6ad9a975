//! The hashes of a content's pieces, from a node that has verified it.

use std::net::SocketAddr;
use std::time::Duration;

use dfget_core::{piece_count, unit_length};
use dfget_proto::messages::dfget::v1::PieceHashesRequest;
use dfget_proto::messages::dfget::v1::cluster_client::ClusterClient;
use tokio::time::timeout;

use crate::client::{Patience, PeerClient};
use crate::error::PeerError;
use crate::sync::error;

/// How long the other may take: it hashes the content for this.
const HASHING: Duration = Duration::from_secs(60);

/// The longest list that is taken: 32 bytes for each of 2^21 units.
const MOST_HASHES: usize = 32 << 21;

impl PeerClient {
    /// The length of a content in bytes and the SHA-256 of each of its pieces, as the node whose gRPC
    /// is at `grpc` has them. It is that node's word, and no proof.
    ///
    /// # Errors
    /// [`PeerError`]; a list that does not go with the length is [`ErrorKind::Wrong`](crate::ErrorKind::Wrong).
    pub async fn piece_hashes(
        &self,
        grpc: SocketAddr,
        task: &str,
        patience: &Patience,
    ) -> Result<(u64, Vec<[u8; 32]>), PeerError> {
        let channel = self.channel(grpc, patience).await?;
        let mut client = ClusterClient::new(channel).max_decoding_message_size(MOST_HASHES + 64);
        let request = PieceHashesRequest { task_id: task.to_owned() };
        let answer = timeout(HASHING, client.piece_hashes(request)).await;
        let answer = answer.map_err(|_| PeerError::broken("it does not answer in time"))?;
        let reply = answer.map_err(|status| error(&status))?.into_inner();
        let (hashes, rest) = reply.sha256.as_chunks::<32>();
        let count = piece_count(reply.total, unit_length(reply.total));
        if !rest.is_empty() || hashes.len() as u64 != count {
            return Err(PeerError::wrong("its list of hashes does not go with the length"));
        }
        Ok((reply.total, hashes.to_vec()))
    }
}
