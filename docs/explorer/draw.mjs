// Brings a part of the page into the shape that a description asks for, reusing the elements that are there,
// so that what has the focus or is being dragged stays the same element.

/** @typedef {{tag: string, attributes: Record<string, any>, children: (Description|string)[]}} Description */

const SVG = "http://www.w3.org/2000/svg";
/** These live in the element and not in its attributes once someone has typed. */
const PROPERTIES = ["value", "checked", "disabled", "open"];
const given = new WeakMap();

/**
 * A description of an element; children that are null or false are left out.
 * @returns {Description}
 */
export function h(tag, attributes, ...children) {
  return { tag, attributes: attributes ?? {}, children: kept(children).map((one) => (typeof one === "object" ? one : String(one))) };
}

const kept = (children) => children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false);

/** Makes `children` the content of an element; those that are null or false are left out. */
export function draw(parent, children) {
  children = kept(children);
  children.forEach((child, at) => {
    const here = parent.childNodes[at];
    if (typeof child === "string") {
      if (here?.nodeType !== Node.TEXT_NODE) replace(parent, here, document.createTextNode(child));
      else if (here.data !== child) here.data = child;
      return;
    }
    const element = here?.localName === child.tag ? here : replace(parent, here, create(parent, child.tag));
    setAttributes(element, child.attributes);
    draw(element, child.children);
    // A choice can only be made among options that are there.
    if (child.tag === "select") element.value = child.attributes.value;
  });
  while (parent.childNodes.length > children.length) parent.lastChild.remove();
}

function create(parent, tag) {
  const drawing = tag === "svg" || parent.namespaceURI === SVG;
  return drawing ? document.createElementNS(SVG, tag) : document.createElement(tag);
}

function replace(parent, old, element) {
  if (old) old.replaceWith(element);
  else parent.append(element);
  return element;
}

function setAttributes(element, attributes) {
  const before = given.get(element) ?? {};
  for (const name of Object.keys(before)) {
    if (!(name in attributes) && !PROPERTIES.includes(name)) element.removeAttribute(name);
  }
  for (const [name, value] of Object.entries(attributes)) {
    if (PROPERTIES.includes(name)) {
      // What is being typed is not written over.
      const typing = name === "value" && element === document.activeElement && before["data-set"] === attributes["data-set"];
      if (!typing && element[name] !== value) element[name] = value;
    } else if (before[name] !== value) {
      element.setAttribute(name, value);
    }
  }
  given.set(element, attributes);
}
