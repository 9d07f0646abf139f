import { render } from "preact";
import { Page } from "./page.js";
import { lookAround } from "./people.js";
import "./style.css";

try {
  render(<Page place={await lookAround()} />, document.body);
} catch (error) {
  render(<p role="alert">The server does not answer: {String(error)}</p>, document.body);
  throw error;
}
