// @langfuse/tracing and @langfuse/otel 5: spans as OTLP JSON; the exporter tries 429, 502, 503 and 504 again. What it
// reports to its span processor is what it believes.
import { LangfuseSpanProcessor } from "@langfuse/otel";
import { setLangfuseTracerProvider, startObservation } from "@langfuse/tracing";
import { OTLPTraceExporter } from "@opentelemetry/exporter-trace-otlp-http";
import { BasicTracerProvider } from "@opentelemetry/sdk-trace-base";
import { address, believe, mark, run } from "./common.mjs";

const exporting = OTLPTraceExporter.prototype.export;
OTLPTraceExporter.prototype.export = function (spans, report) {
    return exporting.call(this, spans, (result) => {
        if (result.code === 0) believe(spans.map((span) => span.name).join(" "));
        else console.error(result.error);
        report(result);
    });
};

const processor = new LangfuseSpanProcessor({
    baseUrl: address, publicKey: "pk-lf-application", secretKey: "sk-lf-application", flushAt: 10, flushInterval: 0.1,
});
const provider = new BasicTracerProvider({ spanProcessors: [processor] });
setLangfuseTracerProvider(provider);

await run({
    hand: (n) => startObservation(mark(n), { input: { n } }).end(),
    end: () => processor.forceFlush(),
});
