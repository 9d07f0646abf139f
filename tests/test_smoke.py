from .people import People
async def test_a_message_is_heard_by_all_devices(people: People) -> None:
    alice, bob = people("alice", "bob")
    talk = await alice.direct(bob)
    phone = await bob.connect("upgrade"); poll = await bob.connect("polling"); desk = await alice.connect()
    sent = await desk.say(talk, "Hello")
    for device in (phone, poll, desk):
        assert await device.hears("message:new") == sent
    assert (await desk.refused("message:send", {"conversationId": talk["id"], "content": ""})).code == "VALIDATION_FAILED"
