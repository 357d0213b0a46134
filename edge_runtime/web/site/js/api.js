// Calls to the page's API. docs/page.md says what each takes and gives.

let csrf = "";

export class Refused extends Error {
  constructor(status, why) {
    super(why);
    this.status = status;
  }
}

async function call(method, path, body) {
  const headers = {};
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (method !== "GET") headers["X-CSRF-Token"] = csrf;
  let response;
  try {
    response = await fetch(path, {
      method, headers, body: body === undefined ? undefined : JSON.stringify(body),
      signal: AbortSignal.timeout(30000),
    });
  } catch {
    throw new Refused(0, "no answer; is it still running?");
  }
  const said = (response.headers.get("content-type") || "").startsWith("application/json")
    ? await response.json() : null;
  if (!response.ok) throw new Refused(response.status, said?.error ?? `status ${response.status}`);
  return said;
}

const part = encodeURIComponent;

export async function open(token) {
  await call("POST", "/api/session", token);
  await resume();
}

export async function resume() {
  ({ csrf } = await call("GET", "/api/session"));
}

export const leave = () => call("DELETE", "/api/session");
export const status = () => call("GET", "/api/status");
export const history = (zone) => call("GET", `/api/zones/${part(zone)}/history`);
export const correct = (zone, name) => call("POST", `/api/zones/${part(zone)}/correct`, { class: name });
export const saveZones = (camera, zones) => call("PUT", `/api/cameras/${part(camera)}/zones`, { zones });
export const samples = (query) => call("GET", `/api/samples?${new URLSearchParams(query)}`);
export const label = (task, labels) => call("POST", "/api/labels", { task, labels });
export const forget = (ids) => call("POST", "/api/forget", { ids });
export const cameraPicture = (camera, frame) => `/api/cameras/${part(camera)}/picture?frame=${frame}`;
export const samplePicture = (id) => `/api/samples/${part(id)}/picture`;
