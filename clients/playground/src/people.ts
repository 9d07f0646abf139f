export interface Person {
  readonly id: string;
  readonly name: string;
}

export interface Place {
  readonly people: readonly Person[];
  readonly socketsPort: number;
}

/** Returns the people whom the page can sign in, and the port for sockets. */
export async function lookAround(): Promise<Place> {
  return answer<Place>(await fetch("/playground/people"));
}

export async function tokenOf(person: Person): Promise<string> {
  const response = await fetch("/playground/token", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ userId: person.id }),
  });
  return (await answer<{ token: string }>(response)).token;
}

async function answer<T>(response: Response): Promise<T> {
  const body = await response.json();
  if (!response.ok) throw new Error(body.error.message);
  return body;
}
