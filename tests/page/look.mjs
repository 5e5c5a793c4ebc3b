// Opens a page at two widths in light and dark, and looks at what a reader would trip over.
// Usage: node look.mjs CHROMIUM PAGE.html   (in the folder where playwright-core is installed)

import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const { chromium } = createRequire(process.cwd() + "/")("playwright-core");
const [executablePath, file] = process.argv.slice(2);
const args = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync"];
const SMALLEST_LETTERS = 9.5;

const browser = await chromium.launch({ executablePath, args });
let failed = 0;
for (const [width, colorScheme] of [[1600, "light"], [1600, "dark"], [390, "light"], [390, "dark"]]) {
  const context = await browser.newContext({ viewport: { width, height: 900 }, colorScheme });
  const page = await context.newPage();
  const complaints = [];
  page.on("request", (request) => request.url().startsWith("file:") || complaints.push(`asks for ${request.url()}`));
  page.on("pageerror", (error) => complaints.push(error.message));
  page.on("console", (message) => complaints.push(message.text()));
  await page.goto(pathToFileURL(file).href);
  complaints.push(...await page.evaluate(look, { width, colorScheme, smallest: SMALLEST_LETTERS }));
  console.log(`${complaints.length ? "FAILED" : "ok"}: ${width} wide, ${colorScheme}`);
  complaints.forEach((complaint) => console.log(`  ${complaint}`));
  failed += complaints.length;
  await context.close();
}
await browser.close();
process.exit(failed ? 1 : 0);

// Runs in the page.
function look({ width, colorScheme, smallest }) {
  const found = [];
  if (document.documentElement.scrollWidth > width) found.push(`scrolls sideways: ${document.documentElement.scrollWidth}`);
  const back = getComputedStyle(document.body).backgroundColor.match(/\d+/g).slice(0, 3).map(Number);
  if ((Math.max(...back) < 100) !== (colorScheme === "dark")) found.push(`background ${back} in ${colorScheme}`);
  const drawings = [...document.querySelectorAll("figure > svg")].filter((svg) => svg.getBoundingClientRect().width);
  if (!drawings.length || drawings.length !== document.querySelectorAll("figure").length) found.push("a drawing is missing");
  for (const svg of drawings) {
    const of = svg.getAttribute("aria-label").split(";")[0];
    const frame = svg.getBoundingClientRect();
    const texts = [...svg.querySelectorAll("text")].map((text) => [text.textContent, text.getBoundingClientRect(), text]);
    texts.forEach(([shown, box, text], index) => {
      if (box.left < frame.left - 1 || box.right > frame.right + 1 || box.top < frame.top - 1 || box.bottom > frame.bottom + 1) {
        found.push(`${of}: "${shown}" is cut off`);
      }
      const size = parseFloat(getComputedStyle(text).fontSize) * frame.width / svg.viewBox.baseVal.width;
      if (size < smallest) found.push(`${of}: "${shown}" is ${size.toFixed(1)} px high`);
      for (const [other, rival] of texts.slice(index + 1)) {
        if (box.left < rival.right - 1 && rival.left < box.right - 1 && box.top < rival.bottom - 3 && rival.top < box.bottom - 3) {
          found.push(`${of}: "${shown}" and "${other}" overlap`);
        }
      }
    });
  }
  return found;
}
