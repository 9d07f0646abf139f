// The rooms server on Node: Socket.IO's own server without compression, as a competent team would run it.
// With REDIS_URL and ADAPTER (redis, sharded or streams), nodes share their rooms over Redis.
import { createServer } from 'node:http';
import { Server } from 'socket.io';

async function adapter(kind, url) {
  const { createClient } = await import('redis');
  const clients = [createClient({ url }), createClient({ url })];
  await Promise.all(clients.map(client => client.connect()));
  if (kind === 'streams') return (await import('@socket.io/redis-streams-adapter')).createAdapter(clients[0]);
  const { createAdapter, createShardedAdapter } = await import('@socket.io/redis-adapter');
  return (kind === 'sharded' ? createShardedAdapter : createAdapter)(...clients);
}

const http = createServer();
const io = new Server(http, { perMessageDeflate: false, serveClient: false, transports: ['websocket'] });
if (process.env.REDIS_URL) io.adapter(await adapter(process.env.ADAPTER, process.env.REDIS_URL));
const seqs = new Map();

io.on('connection', socket => {
  const room = socket.handshake.auth.token;
  socket.join(room);
  socket.on('message:send', (request, answer) => {
    const seq = (seqs.get(request.conversationId) ?? 0) + 1;
    seqs.set(request.conversationId, seq);
    const now = new Date();
    const message = {
      id: seq.toString(16).padStart(24, '0'), conversationId: request.conversationId, seq, rev: seq,
      senderId: socket.id, content: request.content, attachments: [], replyTo: null, mentions: [],
      metadata: {}, clientMessageId: request.clientMessageId, reactions: [], isEdited: false,
      isDeleted: false, createdAt: now, updatedAt: now, deletedAt: null,
    };
    io.to(request.conversationId).emit('message:new', message);
    answer({ ok: true, data: message });
  });
  const tell = active => ({ conversationId }) => socket.to(conversationId).emit('user:typing',
    { conversationId, userId: socket.id, type: 'typing', isActive: active, timestamp: new Date() });
  socket.on('typing:start', tell(true));
  socket.on('typing:stop', tell(false));
  socket.emit('connected', { userId: socket.id, socketId: socket.id, rooms: [room], timestamp: new Date() });
});

http.listen({ host: '127.0.0.1', port: Number(process.env.WS_PORT), backlog: 4096 });
process.on('SIGTERM', () => process.exit(0));
