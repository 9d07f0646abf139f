import { render } from "preact";
import { keepFocus } from "./focus.js";
import { Page } from "./page.js";
import { lookAround } from "./people.js";
import "./style/page.css";
import "./style/pane.css";
import "./style/thread.css";
import "./style/message.css";
import "./style/packets.css";

keepFocus();
try {
  render(<Page place={await lookAround()} />, document.body);
} catch (error) {
  render(
    <main>
      <p role="alert">The server does not respond: {String(error)}</p>
    </main>,
    document.body,
  );
  throw error;
}
