// The peer: a server as a competent team would write it with Node. It uses Socket.IO's own server, the
// official MongoDB driver and Fastify. One transaction per message takes the conversation's next seq, stores
// the message and records its outbox event. It implements the part of the protocol that is measured.
import { createServer } from 'node:http';
import fastify from 'fastify';
import jwt from 'jsonwebtoken';
import { MongoClient, ObjectId } from 'mongodb';
import { Server } from 'socket.io';

const { HOST, PORT, WS_PORT, MONGO_URL, AUTH_JWT_SECRET, INTERNAL_API_SECRET } = process.env;
const DUPLICATE_KEY = 11000;

const mongo = await new MongoClient(MONGO_URL, { w: 'majority', journal: true }).connect();
const db = mongo.db('peer');
const [users, conversations, messages, outbox] =
  ['users', 'conversations', 'messages', 'outbox'].map(name => db.collection(name));
await conversations.createIndex({ participantIds: 1 });
await messages.createIndex({ conversationId: 1, seq: 1 }, { unique: true });
await messages.createIndex({ conversationId: 1, senderId: 1, clientMessageId: 1 },
  { unique: true, partialFilterExpression: { clientMessageId: { $type: 'string' } } });
await outbox.createIndex({ deliveredAt: 1, _id: 1 });

const userOf = token => jwt.verify(token, AUTH_JWT_SECRET, { algorithms: ['HS256'] }).sub;
const refusal = (code, message) => ({ code, message, timestamp: new Date() });
const shown = ({ _id, ...rest }) => ({ id: _id, ...rest });

function store(senderId, { conversationId, clientMessageId, content }) {
  return mongo.withSession(session => session.withTransaction(async () => {
    const now = new Date();
    const { seq } = await conversations.findOneAndUpdate({ _id: conversationId },
      { $inc: { seq: 1 }, $set: { updatedAt: now } },
      { session, returnDocument: 'after', projection: { seq: 1 } });
    const message = {
      _id: new ObjectId(), conversationId, seq, rev: seq, senderId, content, attachments: [], replyTo: null,
      mentions: [], metadata: {}, ...(clientMessageId && { clientMessageId }), reactions: [], isEdited: false,
      isDeleted: false, createdAt: now, updatedAt: now, deletedAt: null,
    };
    await messages.insertOne(message, { session });
    const event = { type: 'message.created', createdAt: now, deliveredAt: null, data: message };
    await outbox.insertOne(event, { session });
    return message;
  }));
}

// One at a time per conversation: otherwise transactions conflict, and the room gets messages out of order.
const last = new Map();
async function inTurn(conversationId, job) {
  const mine = (last.get(conversationId) ?? Promise.resolve()).then(job, job);
  last.set(conversationId, mine);
  try {
    return await mine;
  } finally {
    if (last.get(conversationId) === mine) last.delete(conversationId);
  }
}

function send(senderId, request) {
  return inTurn(request.conversationId, async () => {
    try {
      const message = shown(await store(senderId, request));
      io.to(request.conversationId).emit('message:new', message);
      return message;
    } catch (error) {
      if (error.code !== DUPLICATE_KEY) throw error;
      const { conversationId, clientMessageId } = request;
      return shown(await messages.findOne({ conversationId, senderId, clientMessageId }));
    }
  });
}

const sockets = createServer((request, response) => {
  response.writeHead(request.url === '/health' ? 200 : 404).end();
});
const io = new Server(sockets, { perMessageDeflate: false, serveClient: false });

io.use((socket, next) => {
  try {
    socket.data.userId = userOf(socket.handshake.auth.token);
    next();
  } catch {
    const data = refusal('UNAUTHENTICATED', 'The token is not valid.');
    next(Object.assign(new Error('unauthenticated'), { data }));
  }
});

io.on('connection', async socket => {
  const { userId } = socket.data;
  socket.on('message:send', async (request, answer) => {
    const { conversationId, content } = request;
    if (typeof content !== 'string' || !content || content.length > 10_000)
      return answer({ ok: false, error: refusal('VALIDATION_FAILED', 'content is 1 to 10,000 characters.') });
    if (typeof conversationId !== 'string' || !socket.rooms.has(conversationId))
      return answer({ ok: false, error: refusal('NOT_FOUND', 'There is no such conversation.') });
    try {
      answer({ ok: true, data: await send(userId, request) });
    } catch (error) {
      console.error(error);
      answer({ ok: false, error: refusal('INTERNAL', 'It was not stored.') });
    }
  });
  const tell = isActive => ({ conversationId }) => {
    if (typeof conversationId !== 'string' || !socket.rooms.has(conversationId)) return;
    const activity = { conversationId, userId, type: 'typing', isActive, timestamp: new Date() };
    socket.to(conversationId).emit('user:typing', activity);
  };
  socket.on('typing:start', tell(true));
  socket.on('typing:stop', tell(false));
  const mine = await conversations.find({ participantIds: userId }, { projection: { _id: 1 } }).toArray();
  const rooms = mine.map(conversation => conversation._id);
  await socket.join(rooms);
  socket.emit('connected', { userId, socketId: socket.id, rooms, timestamp: new Date() });
});

const rest = fastify();
for (const probe of ['/health', '/ready']) rest.get(probe, async () => ({ status: 'ok' }));

rest.post('/api/users/sync/batch', async (request, reply) => {
  if (request.headers['x-internal-secret'] !== INTERNAL_API_SECRET)
    return reply.code(401).send({ error: refusal('UNAUTHENTICATED', 'The secret is not right.') });
  const writes = request.body.users.map(({ externalUserId, ...rest }) =>
    ({ updateOne: { filter: { _id: externalUserId }, update: { $set: rest }, upsert: true } }));
  const result = await users.bulkWrite(writes, { ordered: false });
  return { created: result.upsertedCount, updated: result.matchedCount, failed: [] };
});

rest.register(async api => {
  api.addHook('onRequest', async (request, reply) => {
    try {
      request.userId = userOf((request.headers.authorization ?? '').replace(/^Bearer /, ''));
    } catch {
      return reply.code(401).send({ error: refusal('UNAUTHENTICATED', 'The token is not valid.') });
    }
  });

  api.post('/api/conversations', async (request, reply) => {
    const { type, name, participantIds } = request.body;
    const conversation = { _id: new ObjectId().toHexString(), type, name, seq: 0, createdAt: new Date(),
      participantIds: [...new Set([request.userId, ...participantIds])] };
    await conversations.insertOne(conversation);
    return reply.code(201).send(shown(conversation));
  });

  api.get('/api/conversations/:id/messages', async (request, reply) => {
    const conversationId = request.params.id;
    const mine = { _id: conversationId, participantIds: request.userId };
    if (!await conversations.findOne(mine, { projection: { _id: 1 } }))
      return reply.code(404).send({ error: refusal('NOT_FOUND', 'There is no such conversation.') });
    const limit = Math.min(Math.max(Number(request.query.limit) || 50, 1), 200);
    const found = await messages.find({ conversationId }).sort({ seq: -1 }).limit(limit + 1).toArray();
    return { items: found.slice(0, limit).reverse().map(shown), hasMore: found.length > limit };
  });
});

await rest.listen({ host: HOST, port: Number(PORT) });
sockets.listen({ host: HOST, port: Number(WS_PORT), backlog: 4096 });
process.on('SIGTERM', () => process.exit(0));
