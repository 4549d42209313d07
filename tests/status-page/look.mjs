// A browser at the status page. It is told what to do by lines on its input, and answers each with a line of JSON.
//   held SECONDS   waits until the page shows a lane that is held since then, and tells when it did
//   look FOLDER    takes pictures as on a desk and on a phone, in both colour schemes, and has axe look at each
//   leave          signs out, and tells where that led
import { createHash, X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { chromium } from "playwright-core";

const { STATUS_URL: url, STATUS_KEY: key, STATUS_CERTIFICATE: certificate, CHROMIUM: executablePath } = process.env;
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const PARTS = 8;
const SIZES = { desktop: { width: 1280, height: 900 }, phone: { width: 360, height: 740 } };
const WITHIN = { timeout: 60_000 };

// This one certificate is taken, and no other that no authority vouches for.
const leaf = new X509Certificate(readFileSync(certificate)).publicKey.export({ type: "spki", format: "der" });
const pin = createHash("sha256").update(leaf).digest("base64");
const browser = await chromium.launch({ executablePath, args: [`--ignore-certificate-errors-spki-list=${pin}`] });
const page = await browser.newPage({ viewport: SIZES.desktop });
const complaints = [];
page.on("console", (message) => message.type() === "error" && complaints.push(message.text()));
page.on("pageerror", (error) => complaints.push(String(error)));

// What axe finds at the page as it stands, as far as it is serious.
async function findings() {
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => window.axe.run(document));
  const serious = violations.filter((one) => ["serious", "critical"].includes(one.impact));
  return serious.map((one) => `${one.id}: ${one.nodes.map((node) => node.target).join(", ")}`);
}

async function look(folder, what) {
  const found = [];
  for (const [size, viewport] of Object.entries(SIZES)) {
    for (const colorScheme of ["light", "dark"]) {
      await page.setViewportSize(viewport);
      await page.emulateMedia({ colorScheme });
      const name = `${what}-${size}-${colorScheme}`;
      found.push(...(await findings()).map((one) => `${name}: ${one}`));
      const wide = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
      if (wide > 0) found.push(`${name}: ${wide} pixels wider than the screen`);
      await page.screenshot({ path: `${folder}/${name}.png`, fullPage: true });
    }
  }
  await page.setViewportSize(SIZES.desktop);
  return found;
}

const commands = {
  async held(seconds) {
    const since = new Date(Number(seconds) * 1000).toISOString();
    const row = page.locator(`#lanes tr:has(time[datetime="${since}"]):has-text("CUSTODY_APPROVAL_PENDING at dfns")`);
    await row.first().waitFor(WITHIN);
    const seen = Date.now();
    await page.locator("#line", { hasText: "held at a custody provider" }).waitFor(WITHIN);
    return { seen };
  },
  async look(folder) {
    const shown = await page.locator("main").innerText();
    return { found: await look(folder, "status"), shown };
  },
  async leave() {
    await page.getByRole("button", { name: "Sign out" }).click();
    await page.getByLabel("API key").waitFor(WITHIN);
    return { path: new URL(page.url()).pathname };
  },
};

const told = (answer) => console.log(JSON.stringify({ ...answer, complaints }));
try {
  await page.goto(url);
  const found = await look(process.env.STATUS_FOLDER, "sign-in");
  await page.getByLabel("API key").fill(key);
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.locator("#line", { hasText: "Live." }).waitFor(WITHIN);
  await page.waitForSelector(`main:not(:has(.pending)) section:nth-of-type(${PARTS})`, WITHIN);
  told({ found });
  for await (const line of createInterface({ input: process.stdin })) {
    const [command, argument] = line.split(" ");
    told(await commands[command](argument));
  }
} finally {
  await browser.close();
}
